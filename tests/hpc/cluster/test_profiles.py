"""Profiles of sites: the shipped ones, and errors for faulty ones."""

import re
from pathlib import Path

import pytest

from fgssl.errors import SettingsError
from fgssl.settings.layers import read_yaml, to_yaml
from hpc.cluster.site.profile import PartitionSettings, Profile
from hpc.cluster.site.profile_files import load_profile, read_profile

SLURM = Path(__file__).parents[3] / "slurm"
SHIPPED = ["fir", "generic", "karolina", "lumi_g", "narval", "nibi", "rorqual", "trillium"]


def _problems(file: Path, *overrides: str) -> dict[tuple[str, str], str]:
    with pytest.raises(SettingsError) as caught:
        load_profile(file, overrides)
    return {(problem.source, problem.key): problem.message for problem in caught.value.problems}


def _file(folder: Path, **content) -> Path:
    file = folder / "mine.yaml"
    file.write_text(to_yaml({"site": "here"} | content))
    return file


# ------------------------------------------------------------------------------------------- the shipped


def test_these_profiles_are_shipped():
    assert sorted(path.stem for path in SLURM.glob("*.yaml")) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads_and_names_what_its_values_were_read_in(name):
    profile = load_profile(SLURM / f"{name}.yaml")
    assert (profile.name, profile.scheduler, profile.account) == (name, "slurm", None)
    if name != "generic":
        assert profile.sources
        assert profile.gpu is not None
        assert None not in (profile.gpu.per_node, profile.gpu.cores, profile.node.cores, profile.node.billing)
    assert "://" not in (SLURM / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_marks_of_a_shipped_profile_are_keys_of_its_file(name):
    keys = read_yaml(SLURM / f"{name}.yaml").leaves()
    for mark in load_profile(SLURM / f"{name}.yaml").unverified:
        assert any(key == mark or key.startswith(f"{mark}.") for key in keys), mark


@pytest.mark.parametrize(
    ("name", "per_node", "cores", "longest_min"),
    [
        ("karolina", 8, 16, 48 * 60),
        ("lumi_g", 8, 7, 72 * 60),
        ("narval", 4, 12, 7 * 24 * 60),
        ("rorqual", 4, 16, 7 * 24 * 60),
        ("fir", 4, 12, 7 * 24 * 60),
        ("nibi", 8, 14, 7 * 24 * 60),
        ("trillium", 4, 24, 24 * 60),
    ],
)
def test_values_of_the_sites(name, per_node, cores, longest_min):
    profile = load_profile(SLURM / f"{name}.yaml")
    assert profile.gpu is not None
    assert (profile.gpu.per_node, profile.gpu.cores) == (per_node, cores)
    assert profile.limit("longest_walltime_min", profile.partition)[0] == longest_min


def test_generic_knows_nothing():
    profile = load_profile(SLURM / "generic.yaml")
    assert profile.partitions is None
    assert set(vars(profile.limits).values()) == {None}
    assert {profile.requeue, profile.submit_from_jobs, profile.internet} == {"unknown"}
    assert profile.node.billing is None
    assert profile.environment.lines == ()


# ---------------------------------------------------------------------------------------- what is looked up


def test_the_partition_limits_what_the_site_does_not_and_both_are_cited():
    profile = load_profile(SLURM / "karolina.yaml")
    key = "partitions.qgpu.limits.longest_walltime_min"
    assert profile.limit("longest_walltime_min", "qgpu") == (2880, key)
    assert profile.limit("array_tasks", "qgpu") == (1500, "limits.array_tasks")
    limits = profile.limits_of("qgpu_exp")
    assert (limits.submitted, limits.running, limits.array_tasks, limits.longest_walltime_min) == (5, 1, 1500, 60)
    assert profile.limits_of(None) == profile.limits
    assert profile.cite(key) == f"{profile.file}: {key}, unverified"
    assert profile.cite("gpu.per_node") == f"{profile.file}: gpu.per_node"


def test_the_kind_of_node_is_the_partitions():
    profile = load_profile(SLURM / "lumi_g.yaml")
    assert profile.kind_of_node("small-g", True) is profile.node
    assert profile.kind_of_node("small-g", False) is profile.node
    assert profile.kind_of_node("small", False) is profile.cpu_node
    assert load_profile(SLURM / "narval.yaml").kind_of_node(None, False) is not None
    assert load_profile(SLURM / "trillium.yaml").kind_of_node(None, False) is None


def test_the_lines_of_an_environment(tmp_path):
    environment = {
        "modules": ["StdEnv/2023", "python/3.12"],
        "variables": {"CACHE": "/tmp/cache-$SLURM_JOB_ID", "WORDS": 'a "b"'},
        "venv": "$HOME/my env",
        "setup": ["ulimit -c 0"],
    }
    assert load_profile(_file(tmp_path, environment=environment)).environment.lines == (
        'CACHE="/tmp/cache-$SLURM_JOB_ID"; export CACHE',
        'WORDS="a \\"b\\""; export WORDS',
        'source "$HOME/my env/bin/activate"',
        "ulimit -c 0",
    )


@pytest.mark.parametrize("name", ["A B", "2A", "A=B", "A;B", "", "A\n"])
def test_a_variable_that_no_shell_can_export(name, tmp_path):
    with pytest.raises(SettingsError, match="must consist of letters, digits and _"):
        load_profile(_file(tmp_path, environment={"variables": {name: "x"}}))


# --------------------------------------------------------------------------------------------- overrides


def test_the_command_line_wins_and_takes_marks_away():
    overrides = ["cluster.account=OPEN-12-34", "cluster.limits.array_tasks=100", "cluster.environment.venv=$HOME/venv"]
    profile = load_profile(SLURM / "karolina.yaml", overrides)
    assert (profile.account, profile.limits.array_tasks) == ("OPEN-12-34", 100)
    assert profile.environment.venv == "$HOME/venv"
    before = load_profile(SLURM / "karolina.yaml").unverified
    assert set(before) - set(profile.unverified) == {"limits.array_tasks"}


def test_an_account_that_does_not_fit_is_of_the_command_line():
    problems = _problems(SLURM / "lumi_g.yaml", "cluster.account=OPEN-12-34")
    [((source, key), message)] = problems.items()
    assert (source, key) == ("command line", "cluster.account")
    assert "'OPEN-12-34' is not allowed: accounts of lumi_g are like project_465000000" in message
    assert load_profile(SLURM / "lumi_g.yaml", ["cluster.account=project_465000001"]).account == "project_465000001"


def test_an_override_of_something_else_is_refused():
    problems = _problems(SLURM / "karolina.yaml", "seeds=[1]", "cluster.acount=OPEN-1-2")
    assert "begin with cluster." in problems["command line", "seeds"]
    assert "did you mean 'account'?" in problems["command line", "cluster.acount"]


# -------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("slurm/karolna.yaml", "no file slurm/karolna.yaml (did you mean karolina?);"),
        ("narwhal", "unknown cluster narwhal (did you mean narval?);"),
        ("elsewhere.yaml", "no file elsewhere.yaml;"),
        ("slurm", "unknown cluster slurm;"),  # a folder
    ],
)
def test_an_unknown_profile_is_told_with_those_that_there_are(given, words, monkeypatch):
    monkeypatch.chdir(SLURM.parent)
    [((source, key), message)] = _problems(Path(given)).items()
    assert (source, key) == ("command line", "--cluster")
    assert message == f"{words} choose one of {', '.join(SHIPPED)}, or give the path of your own profile"


def test_a_shipped_profile_is_known_by_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(SLURM.parent)
    assert load_profile(Path("karolina")) == load_profile(Path("slurm/karolina.yaml"))
    monkeypatch.chdir(tmp_path)
    assert load_profile(Path("karolina")) == load_profile(SLURM / "karolina.yaml")
    Path("karolina").write_text("site: here")
    assert load_profile(Path("karolina")).site == "here"  # a file that is there comes first


def test_what_is_not_faulty_is_read_all_the_same(tmp_path):
    file = _file(
        tmp_path,
        gpu={"per_node": 8, "cores": "many"},
        limits={"nodes": 4, "submitted": -1},
        sources=[{"document": "x"}],
        cpu_node=3,
    )
    profile, problems = read_profile(file, ["cluster.limits.nodes=5", "cluster.requeue=maybe"])
    assert {problem.key for problem in problems} == {
        *("gpu.cores", "limits.submitted", "sources.0", "cpu_node", "cluster.requeue")
    }
    assert profile.gpu is not None
    assert (profile.gpu.per_node, profile.gpu.cores, profile.requeue) == (8, None, "unknown")
    assert (profile.limits.nodes, profile.limits.submitted, profile.sources) == (5, None, ())
    assert profile.cpu_node is not None  # not known, rather than not there


def test_of_a_file_that_cannot_be_read_nothing_is_known(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: [")
    for file in (tmp_path / "mine.yaml", tmp_path / "none.yaml"):
        profile, [problem] = read_profile(file)
        assert "mine.yaml" in problem.source or problem.key == "--cluster"
        assert (profile.partitions, profile.gpu is None, profile.cpu_node is None) == (None, False, False)


def test_all_errors_at_once_with_their_keys(tmp_path):
    file = _file(
        tmp_path,
        partitons={},
        scheduler="pbs",
        gpu={"vender": "cuda"},
        node={"cores": 64, "usable_cores": 65},
        partitions={"long": {"limits": {"longest_waltime_min": 10}}, "short": {"whole_node": "perhaps"}},
        partition="lang",
        requeue="yes",
        accounts={"pattern": "("},
        unverified=["node.core"],
    )
    problems = {key: message for (source, key), message in _problems(file).items() if source == str(file)}
    assert "did you mean 'partitions'?" in problems["partitons"]
    assert "unknown scheduler 'pbs': allowed: slurm" in problems["scheduler"]
    assert "did you mean 'vendor'?" in problems["gpu.vender"]
    assert problems["node"] == "usable_cores 65 must not exceed cores 64"
    assert "did you mean 'longest_walltime_min'?" in problems["partitions.long.limits.longest_waltime_min"]
    assert "'perhaps' is not allowed" in problems["partitions.short.whole_node"]
    assert "'allowed', 'forbidden' or 'unknown'" in problems["requeue"]
    assert "must be a regular expression" in problems["accounts"]
    assert "'node.core' must be a key with a value in this file: did you mean 'node.cores'?" in problems["unverified"]


def test_no_key_of_the_loader_is_offered(tmp_path):
    problems = _problems(_file(tmp_path, file="x", sight="y"))
    for key in ("file", "sight"):
        assert " file," not in problems[str(tmp_path / "mine.yaml"), key]


def test_a_partitions_limits_must_fit_the_sites(tmp_path):
    limits = {"shortest_walltime_min": 60}
    problems = _problems(_file(tmp_path, limits=limits, partitions={"short": {"limits": {"longest_walltime_min": 30}}}))
    message = problems[str(tmp_path / "mine.yaml"), "partitions.short.limits"]
    assert message == "shortest_walltime_min 60 must not exceed longest_walltime_min 30"


def test_values_that_do_not_fit_each_other(tmp_path):
    gpu = {"per_node": 4, "counts": [1, 8], "cores": 20}
    content = {"partitions": {"long": {}}, "partition": "lang", "cpu_partition": "cpu", "gpu": gpu}
    problems = _problems(_file(tmp_path, node={"cores": 64}, **content))
    assert {key for _, key in problems} == {"partition", "cpu_partition", "gpu.counts", "gpu.cores"}
    assert "did you mean 'long'?" in problems[str(tmp_path / "mine.yaml"), "partition"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"node": {"billing": {"unit": "GPU-hours"}}}, "must have at least one of gpus, cores, memory_gb"),
        ({"accounts": {"pattern": "project_.*", "example": "mine"}}, "'mine' does not match pattern"),
        (
            {"limits": {"shortest_walltime_min": 60, "longest_walltime_min": 30}},
            "60 must not exceed longest_walltime_min 30",
        ),
        ({"limits": {"submitted": True}}, "true is not allowed: give a number"),
        ({"unverified": ["limits.submitted"], "limits": {"submitted": None}}, "must be a key with a value"),
        ({"partitions": ["long"]}, "valid dictionary"),
        ({"environment": {"variables": {"LEVEL": 3}}}, "put it in quotes"),
    ],
)
def test_a_faulty_value(tmp_path, content, words):
    [message] = _problems(_file(tmp_path, **content)).values()
    assert re.search(re.escape(words), message)


def test_a_partition_that_says_nothing_has_the_sites_limits(tmp_path):
    profile = load_profile(_file(tmp_path, partitions={"long": None}, limits={"nodes": 3}))
    assert isinstance(profile, Profile)
    assert profile.partitions == {"long": PartitionSettings()}
    assert profile.limit("nodes", "long") == (3, "limits.nodes")
