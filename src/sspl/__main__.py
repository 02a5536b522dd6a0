"""`python -m sspl`: the same as the `sspl` command."""

from sspl.cli.main import main

if __name__ == "__main__":
    main()
