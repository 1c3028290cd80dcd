"""The command `berth`, which is the program that the package has inside."""

import os
import signal
import sys

from ._paths import NATIVE


def main() -> None:
    """Becomes the program, with the arguments of this process."""
    program = os.path.join(NATIVE, "bin", "berth")
    # Python ignores these, and a program that it becomes would, too: `berth plan | head` must end.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execv(program, ["berth", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"berth: {program}: {error.strerror}; this is no installed package: pip install .")


if __name__ == "__main__":
    main()
