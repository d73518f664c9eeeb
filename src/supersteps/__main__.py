"""`python -m supersteps`: the command line."""

from supersteps.cli import main

if __name__ == "__main__":
    main()
