"""`python -m pantskit` is the command `pantskit`."""

from pantskit.cli import main

if __name__ == "__main__":
    main()
