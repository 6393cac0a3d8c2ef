"""`python -m mas_hooks` is `mas-hooks`."""

from mas_hooks.cli import main

if __name__ == "__main__":
    main()
