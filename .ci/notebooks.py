"""Execute every notebook in a copy; fail on an error, or if one is committed without its outputs."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"


def main() -> None:
    """Check each notebook in turn."""
    paths = sorted(FOLDER.glob("*.ipynb"))
    if not paths:
        sys.exit(f"no notebook in {FOLDER}")
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        bare = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count is None]
        if bare:
            sys.exit(f"{path.name} is committed without the outputs of {len(bare)} cell(s), first:\n{bare[0]}")
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
        print(f"{path.name}: {len(notebook.cells)} cells ran")
    print(f"{len(paths)} passed, 0 failed")


if __name__ == "__main__":
    main()
