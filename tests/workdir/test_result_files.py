"""Files of results that are damaged or hostile: one line each, and the others are listed."""

import time

import pytest

from diffusion.runtime import atomic_files
from diffusion.workdir import result_files, run_config
from diffusion.workdir.result_files import Result

DEEP = "[" * 200_000
HOSTILE = (
    DEEP,
    '{"name": "fid", "series": {}, "protocol": {}, "values": ' + DEEP,
    '{"name": "fid", "series": {}, "protocol": {}, "values": {"fid": 1' + "0" * 400 + "}}",
    '{"name": "fid", "series": {}, "protocol": {}, "values": {"fid": 1' + "0" * 9000 + "}}",
    '{"name": "fid", "series": {"fid": 3}, "protocol": {}, "values": {}}',
    '{"name": 3, "series": {}, "protocol": {}, "values": {}}',
    "[]",
    "\x00",
)


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_file_is_one_line_and_the_listing_continues(tmp_path, content):
    good = result_files.write(tmp_path, Result("fid", {"fid": 3.0}, {}, {"step": 5}))
    (tmp_path / "eval" / "a.json").write_text(content)
    start = time.monotonic()
    with pytest.warns(UserWarning, match=r"a.json is no result file or is damaged") as warned:
        assert [path for path, _ in result_files.find(tmp_path)] == [good]
    assert time.monotonic() - start < 5 and len(warned) == 1 and "\n" not in str(warned[0].message)


def test_a_folder_among_the_results_is_left_out(tmp_path):
    (tmp_path / "eval" / "a.json").mkdir(parents=True)
    with pytest.warns(UserWarning, match="left out"):
        assert result_files.find(tmp_path) == []


def test_deep_json_elsewhere_in_a_run_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"config.json is damaged \(its JSON is nested too deeply\)"):
        run_config.read_run(tmp_path)
    with pytest.raises(ValueError, match="nested too deeply"):
        atomic_files.read_json(tmp_path / "config.json")
