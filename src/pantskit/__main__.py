"""`python -m pantskit` is the command `pantskit`."""

from pantskit.cli.app import main

if __name__ == "__main__":
    main()
