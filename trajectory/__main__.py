"""``python -m trajectory`` is the command line."""

from trajectory.cli import main

if __name__ == "__main__":
    main()
