"""`python -m mas_hooks` is `mas-hooks`."""

from mas_hooks.cli.main import main

if __name__ == "__main__":
    main()
