"""`python -m rgpipeline.cli`: for where the command itself is not on the path."""

from rgpipeline.cli import main

if __name__ == "__main__":
    main()
