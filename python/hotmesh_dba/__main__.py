"""``python -m hotmesh_dba`` is the command ``hotmesh-dba``."""

from hotmesh_dba.cli import main

if __name__ == "__main__":
    main()
