"""`python -m leakgauge` is the command `leakgauge`."""

from .audit.cli import main

if __name__ == "__main__":
    main()
