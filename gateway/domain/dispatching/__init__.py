"""What the systems around the MES say: orders, released sets, changes, holds, material, master data."""
