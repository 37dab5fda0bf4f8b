"""Bridges to other libraries, one file each. None is imported before it is asked for."""
