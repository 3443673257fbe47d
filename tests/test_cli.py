"""The command line as a newcomer types it; quickstart is the real one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_archs.training import TrainConfig
from keras_archs_cli import main

COMMAND = [sys.executable, "-c", "from keras_archs_cli.main import main; main()"]


@pytest.fixture
def cli(monkeypatch, tmp_path, capsys):
    """Runs a command in this process and gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-archs", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        output = capsys.readouterr()
        return exit_.value.code, output.out, output.err

    return run


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """One quickstart in a process of its own, its output kept apart."""
    folder = tmp_path_factory.mktemp("quickstart")
    result = subprocess.run([*COMMAND, "quickstart", "--json"], cwd=folder, capture_output=True, text=True)
    return folder / "runs" / "quickstart", result


def test_quickstart_reaches_what_it_promises(quickstart):
    _, result = quickstart
    assert result.returncode == 0, result.stderr
    results = json.loads(result.stdout)
    reports = {report["recipe"]: report for report in results["artifacts"]}
    assert list(reports) == ["float32", "float16", "dynamic_int8", "int8"]
    accuracy = reports["float32"]["keras_accuracy"]
    assert accuracy == results["metrics"]["test_accuracy"] >= 0.98
    assert reports["int8"]["artifact_accuracy"] >= accuracy - 0.005
    assert reports["int8"]["agreement"] >= 0.97
    assert reports["int8"]["sqnr_db"] >= 20
    assert all(report["passed"] for report in reports.values())


def test_quickstart_leaves_everything_in_its_folder(quickstart):
    folder, _ = quickstart
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    artifact = ("artifact.json", "model.tflite")
    recipes = ("float32", "float16", "dynamic_int8", "int8")
    run = set(
        "config.yaml confusion.png curves.png history.csv labels.txt last.keras metrics.json model.keras "
        "per_class.csv report.html".split()
    )
    checkpoints = {name for name in files if name.startswith("checkpoints/step-")}
    assert len(checkpoints) == 2
    assert files == run | checkpoints | {f"artifacts/{r}/{f}" for r in recipes for f in artifact}
    record = json.loads((folder / "artifacts/int8/artifact.json").read_text())
    assert not {name for name in record["tensors_by_dtype"] if name.startswith(("float", "bfloat"))}
    assert record["verification"]["passed"]


def test_quickstart_is_quiet(quickstart):
    """Two lines of what is being done; no chatter, no bars where nobody looks."""
    _, result = quickstart
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Training ResNet-20")
    assert lines[1].startswith("Converting it to float32")
    assert len(lines) == 2


def test_export_of_a_run(quickstart, cli):
    folder, _ = quickstart
    code, out, _ = cli("export", str(folder), "--recipe", "float32")
    assert code == 0
    assert out.splitlines()[0].split() == ["model", "accuracy", "agreement", "SQNR", "size", "latency"]
    assert "100.00%" in out
    code, _, err = cli("export", str(folder), "--recipe", "int9")
    assert (code, "recipe='int9' is not accepted. Did you mean 'int8'?" in err) == (1, True)


def test_export_for_a_target_with_choices(quickstart, cli):
    folder, _ = quickstart
    choices = ["--ranges", "mse", "--correction", "equalization", "--rewrite", "relu_into_add", "--json"]
    code, out, err = cli("export", str(folder), "--target", "mobile", "--min-sqnr", "20", *choices)
    assert (code, err) == (0, "")
    (exported,) = json.loads(out)
    assert exported["folder"] == str(folder / "artifacts" / "int8-mobile")
    assert any("MAX_POOL_2D" in finding["where"] for finding in exported["lint"])
    record = json.loads((folder / "artifacts/int8-mobile/artifact.json").read_text())
    plan = record["plan"]
    assert (plan["ranges"], plan["corrections"], plan["rewrites"]) == (
        "mse",
        ["equalization"],
        ["relu_into_add"],
    )
    assert (plan["tolerance"]["min_sqnr_db"], plan["input_type"], record["target"]) == (20, "uint8", "mobile")
    code, out, _ = cli("inspect", str(folder / "artifacts/int8-mobile/model.tflite"))
    assert code == 0
    assert "10 labels: 0, 1, 2, 3, 4" in out


def test_export_takes_raw_images_into_a_folder_of_their_own(quickstart, cli):
    folder, _ = quickstart
    code, out, _ = cli("export", str(folder), "--recipe", "float32", "--raw-images")
    assert (code, out.splitlines()[-1]) == (0, str(folder / "artifacts/float32-raw"))
    record = json.loads((folder / "artifacts/float32-raw/artifact.json").read_text())
    assert record["plan"]["image"]["mean"] == [127.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--recipe float16 --ranges mse", "ranges='mse' does nothing for float16"),
        ("--recipe float32 --target micro", "recipe='float32' makes no sense for target='micro'"),
        ("--recipe int8 --recipe dynamic_int8 --target micro", "recipe='dynamic_int8' makes no sense"),
        ("--rewrite relu_in_add", "rewrite='relu_in_add' is not accepted. Did you mean 'relu_into_add'"),
        ("--target micro --min-sqnr 30", "computes in integers only"),
    ],
)
def test_export_checks_everything_first(quickstart, cli, options, message):
    folder, _ = quickstart
    before = sorted(folder.rglob("*"))
    code, _, err = cli("export", str(folder), *options.split())
    assert (code, sorted(folder.rglob("*"))) == (1, before)
    assert message in err


def test_all_takes_no_other_option(cli):
    code, _, err = cli("export", "nowhere", "--all", "--min-sqnr", "0")
    assert code == 2
    assert "takes no other option" in err


def test_train_writes_a_new_folder_each_time(cli, tmp_path):
    arguments = ["train", "--epochs", "1", "--set", "data.image_size=8", "--json"]
    for name in ("resnet20-digits", "resnet20-digits-2"):
        code, out, err = cli(*arguments)
        assert (code, err) == (0, "")
        assert json.loads(out)["run_dir"] == f"runs/{name}"
        assert (tmp_path / "runs" / name / "model.keras").exists()
    metrics = json.loads((tmp_path / "runs/resnet20-digits/metrics.json").read_text())
    code, out, _ = cli("evaluate", "runs/resnet20-digits")
    assert code == 0
    assert out.startswith(f"{metrics['test_accuracy']:.2%} of 450 images are right; loss")
    assert len(out.splitlines()) == 12  # ten digits and a header
    shown = json.loads(cli("evaluate", "runs/resnet20-digits", "--split", "validation", "--json")[1])
    assert shown["accuracy"] == pytest.approx(metrics["validation_accuracy"], abs=1e-6)


def test_recipes(cli):
    code, out, err = cli("recipes")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()][:3] == ["recipe", "digits", "finetune"]
    code, out, _ = cli("recipes", "rsb_a1")
    assert "learning_rate: 0.005" in out


def test_train_reads_a_file_and_the_command_line_wins(cli, tmp_path):
    (tmp_path / "c.yaml").write_text("recipe: rsb_a3\nrun: {epochs: 7}\nmodel: {name: resnet51}\n")
    code, _, err = cli("train", "--config", "c.yaml")
    assert (code, "model.name='resnet51' is not accepted. Did you mean 'resnet5" in err) == (1, True)
    arguments = ["train", "--config", "c.yaml", "--model", "resnet26", "--set", "augment.mixup=0.3"]
    code, out, err = cli(*arguments, "--dry-run", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["config"]["run"]["epochs"] == 7
    assert shown["config"]["model"]["name"] == "resnet26"
    assert shown["config"]["optimizer"]["name"] == "lamb"
    assert shown["config"]["augment"]["mixup"] == 0.3
    assert shown["plan"]["replica_batch_size"] == 2048
    assert not list((tmp_path / "runs").glob("*"))
    code, out, _ = cli(*arguments, "--dry-run", "--hosts", "a:1,b:2", "--task-index", "1")
    assert code == 0
    assert ["batch", "size", "2048", "=", "2", "x", "1024"] in [line.split() for line in out.splitlines()]


def test_the_name_of_the_folder_suits_any_file_system(cli):
    for data, name in (("shapes:20", "shapes-20"), ("x/train-*", "train--"), ("Blüten v1.0", "Blüten-v1.0")):
        shown = json.loads(cli("train", "--data", data, "--dry-run", "--json")[1])
        assert shown["run_dir"] == f"runs/resnet20-{name}"


@pytest.fixture
def begun(tmp_path):
    """An interrupted run, as far as its configuration goes."""
    folder = tmp_path / "runs" / "resnet20-digits"
    folder.mkdir(parents=True)
    TrainConfig().replaced({"run.batch_size": 20, "run.epochs": 3}).to_yaml(folder / "config.yaml")
    return folder


def test_auto_takes_the_batch_size_of_the_same_run(cli, begun):
    arguments = ("train", "--set", "run.batch_size=auto", "--dry-run", "--json", "--epochs")
    shown = json.loads(cli(*arguments, "3")[1])
    assert (shown["run_dir"], shown["plan"]["batch_size"]) == ("runs/resnet20-digits", 20)
    assert "--dry-run does not do" in cli(*arguments, "4")[2]
    assert "--dry-run does not do" in cli(*arguments, "4", "--run-dir", str(begun))[2]


def test_resume_takes_hosts_and_tells_what_may_change(cli, begun):
    code, _, err = cli("resume", str(begun), "--set", "run.epochs=4")
    assert code == 1
    assert "--set run.epochs: a run that goes on may change run.batch_size, run.checkpoint_steps," in err
    assert "--force" not in err
    options = ("--hosts", "a:1,b:2", "--task-index", "0", "--start-deadline", "9")
    code, _, err = cli("resume", str(begun), *options, "--set", "run.batch_size=21")
    assert (code, "run.batch_size=21 is for all 2 replicas" in err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--set", "run.epoch=3"], 1, "run.epoch is no field. Did you mean 'run.epochs'?"),
        (["train", "--set", "epochs=3"], 1, "Did you mean 'run.epochs'?"),
        (["train", "--set", "run.epochs"], 1, "--set 'run.epochs' must be NAME=VALUE"),
        (["train", "--set", "run.epochs=["], 1, "--set 'run.epochs=[': the value is not YAML"),
        (["train", "--set", "optimizer.learning_rate=-1e-3"], 1, "optimizer.learning_rate=-0.001 must be"),
        (["train", "--recipe", "rsb_a4"], 1, "recipe='rsb_a4' is not accepted. Did you mean 'rsb_a"),
        (["train", "--strategy", "miror"], 1, "Did you mean 'mirrored'?"),
        (["train", "--hosts", "a:1,b:2"], 1, "task_index"),
        (["train", "--data", "nowhere"], 1, "nowhere' is neither 'digits' nor 'shapes' nor a folder"),
        (["train", "--set", "run.batch_size=auto", "--dry-run"], 1, "which --dry-run does not do"),
        (["train", "--set", "run.micro_batches=7", "--dry-run"], 1, "run.micro_batches=7 must divide"),
        (["lr-find", "--picture", "nowhere/a.png"], 2, "the folder of 'nowhere/a.png' does not exist"),
        (["lr-find", "--picture", "a.txt"], 2, "'a.txt' must end in .png, .pdf, .svg, .jpg"),
        (
            "train --hosts 127.0.0.1:29871,127.0.0.1:29872 --task-index 0 --start-deadline 1".split(),
            138,
            "worker 1, 127.0.0.1:29872 did not answer within 1 s",
        ),
        (["resume", "nowhere"], 1, "run_dir='nowhere' is no run folder"),
        (["evaluate", "nowhere"], 1, "run_dir='nowhere' is no run folder"),
        (["train", "--config", "none.yaml"], 1, "none.yaml"),
        (["export", "nowhere"], 1, "run_dir='nowhere' is no run folder"),
        (["list", "restnet*"], 1, "pattern='restnet*' matches none of"),
        (["trian"], 2, "trian"),
        (["train", "--epoch", "3"], 2, "--epoch"),
    ],
)
def test_errors_are_one_message_and_a_code(cli, arguments, code, message):
    actual, out, err = cli(*arguments)
    assert (actual, out) == (code, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_list(cli):
    code, out, err = cli("list", "*_v2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["name", "inception_resnet_v2", "inception_v2"]
    assert lines[1].split()[1:] == "55.87 13.16 299 keras torch slim tf 3 keras_in1k 80.3 299".split()
    assert lines[2].split()[-3:] == ["-", "-", "-"]
    assert max(map(len, lines)) <= 120
    rows = json.loads(cli("list", "--json")[1])
    assert len(rows) == 158
    row = next(row for row in rows if row["name"] == "resnet50")
    assert row["weights"][:2] == ["keras_in1k", "a1_in1k"]
    assert row["conventions"] == ["keras", "torch", "slim"]
    assert row["constructor"] == "ResNet50"
    code, out, err = cli("list", "resnt50")
    assert (code, out) == (1, "")
    assert "matches none of the 158 models. Did you mean 'resnet50'?" in err.replace("\n", " ")


def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "train", "--epochs", "500"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/labels.txt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "Interrupted; nothing was kept.\n"
    assert not list(tmp_path.glob("runs/*"))
