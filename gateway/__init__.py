"""Shop-floor gateway: machines and SCADA below, MES above, one YAML-configured daemon between them."""

__version__ = "0.1.0"
