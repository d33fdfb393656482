"""A pseudo console (ConPTY), the Windows counterpart of a pseudo-terminal, with a Python program in it."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from importlib import import_module
from typing import Any

# Wine gives a program in a pseudo console no standard streams. On Windows this changes nothing.
_STREAMS = (
    "import os, sys; o = os.open('CONOUT$', os.O_RDWR)\n"
    "os.dup2(os.open('CONIN$', os.O_RDWR), 0); os.dup2(o, 1); os.dup2(o, 2)\n"
    "sys.stdin = open(0); sys.stdout = open(1, 'w'); sys.stderr = open(2, 'w')\n"
)
# Runs a command, given as the arguments; at the first Enter, presses Ctrl-C for everything in the console but itself.
DRIVER = (
    "import ctypes, subprocess\n"
    "process = subprocess.Popen(sys.argv[1:])\n"
    "input()\n"
    "ctypes.windll.kernel32.SetConsoleCtrlHandler(None, True)\n"
    "ctypes.windll.kernel32.GenerateConsoleCtrlEvent(0, 0)\n"
    "code = process.wait(10)\n"
    "sys.exit(code - (1 << 32) if code >= 1 << 31 else code)\n"
)
_PSEUDOCONSOLE, _EXTENDED, _USE_HANDLES = 0x20016, 0x80000, 0x100
_HANDLE, _NUMBER = ctypes.c_void_p, ctypes.c_ulong
_kernel32: Any = vars(ctypes)["windll"].kernel32 if sys.platform == "win32" else None


class _StartupInfo(ctypes.Structure):
    """STARTUPINFOEXW; fields that stay zero have no name."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("_strings", _HANDLE * 3),
        ("_numbers", _NUMBER * 7),
        ("flags", _NUMBER),
        ("_show", ctypes.c_size_t),
        ("_handles", _HANDLE * 4),
        ("attributes", _HANDLE),
    )


class _ProcessInformation(ctypes.Structure):
    _fields_ = (("process", _HANDLE), ("thread", _HANDLE), ("ids", _NUMBER * 2))


class Console:
    """A console of 100 columns and 30 lines; a context manager that closes it, which ends the program.

    Args:
        program: Python code; `sys.argv` has the arguments.
    """

    def __init__(self, program: str, *arguments: str) -> None:
        self.shown = b""  # what the program has printed, with escape sequences
        read_input, self._input = _pipe()
        self._output, write_output = _pipe()
        self._console, self._process = _HANDLE(), _ProcessInformation()
        size = ctypes.c_uint32(30 << 16 | 100)  # a COORD
        handles = (_HANDLE(read_input), _HANDLE(write_output))
        assert _kernel32.CreatePseudoConsole(size, *handles, 0, ctypes.byref(self._console)) == 0
        needed = ctypes.c_size_t()
        _kernel32.InitializeProcThreadAttributeList(None, 1, 0, ctypes.byref(needed))
        attributes = ctypes.create_string_buffer(needed.value)
        assert _kernel32.InitializeProcThreadAttributeList(attributes, 1, 0, ctypes.byref(needed))
        key, length, none = ctypes.c_size_t(_PSEUDOCONSOLE), ctypes.c_size_t(ctypes.sizeof(_HANDLE)), _HANDLE()
        assert _kernel32.UpdateProcThreadAttribute(attributes, 0, key, self._console, length, none, none)
        info = _StartupInfo(
            size=ctypes.sizeof(_StartupInfo), flags=_USE_HANDLES, attributes=ctypes.addressof(attributes)
        )
        line = ctypes.create_unicode_buffer(
            subprocess.list2cmdline([sys.executable, "-c", _STREAMS + program, *arguments])
        )
        assert _kernel32.CreateProcessW(
            none, line, none, none, False, _EXTENDED, none, none, ctypes.byref(info), ctypes.byref(self._process)
        )
        msvcrt = import_module("msvcrt")
        self._keys = msvcrt.open_osfhandle(self._input, 0)
        self._screen = msvcrt.open_osfhandle(self._output, os.O_RDONLY)
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_exception: object) -> None:
        _kernel32.TerminateProcess(_HANDLE(self._process.process), 1)
        _kernel32.ClosePseudoConsole(self._console)
        os.close(self._keys)

    def type(self, text: str) -> None:
        """Press keys, as a terminal sends them."""
        os.write(self._keys, text.encode())

    def wait_for(self, text: bytes, seconds: float = 20) -> None:
        """Wait until something has been printed."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < until, self.shown
            time.sleep(0.05)

    def exit_code(self, seconds: float = 20) -> int:
        """Wait for the end of the program."""
        code, process = _NUMBER(), _HANDLE(self._process.process)
        assert _kernel32.WaitForSingleObject(process, int(seconds * 1000)) == 0, self.shown
        _kernel32.GetExitCodeProcess(process, ctypes.byref(code))
        return code.value

    def _read(self) -> None:
        try:
            while data := os.read(self._screen, 4096):
                self.shown += data
        except OSError:  # it has been closed
            os.close(self._screen)


def _pipe() -> tuple[int, int]:
    ends = _HANDLE(), _HANDLE()
    assert _kernel32.CreatePipe(ctypes.byref(ends[0]), ctypes.byref(ends[1]), None, 0)
    return ends[0].value or 0, ends[1].value or 0
