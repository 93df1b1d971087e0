"""An operation added as CONTRIBUTING says is computed on pages without another edit."""

from new_row import copy_with_the_row, run_tests


def test_a_row_alone_is_an_operation_on_pages(tmp_path):
    chosen = "every_operation or operations_agree_with_python"
    assert run_tests(copy_with_the_row(tmp_path), chosen, "tests/browser/test_page.py") == 5
