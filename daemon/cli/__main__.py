"""`python -m daemon.cli`: the command `headgate` where it is not installed."""

from daemon.cli.app import main

if __name__ == "__main__":
    main()
