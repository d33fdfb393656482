"""Tests that only Windows can run, and how to run all tests there: natively, or under Wine with run.sh."""

import sys

if sys.platform == "win32":
    import ctypes

    UNDER_WINE = hasattr(ctypes.windll.ntdll, "wine_get_version")
else:
    UNDER_WINE = False
