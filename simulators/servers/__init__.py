"""Thin servers in front of the machine models: OPC UA for FIL01 and SCADA, Modbus TCP for LBL01."""
