"""The gate before step 1: inside the band it says so, outside it refuses with what the failures look like."""

from dataclasses import dataclass

import pytest

from analysis.statistics.intervals import wilson
from trainer.options.config import ConfigError, parse_options
from trainer.training.calibration import BANDS, Uncalibrated, band_of, judge
from trainer.training.train import train


@dataclass
class Summary:
    """As much of an evaluation as the gate reads."""

    k: int
    n: int
    outcomes: dict
    truncated: bool = False
    dataset: str = "mbpp/sanitized/test"

    @property
    def pass_at_1(self):
        return self.k / self.n

    @property
    def interval(self):
        return wilson(self.k, self.n)

    @property
    def failures(self):
        return [
            (task, outcome, self.truncated)
            for outcome, n in self.outcomes.items()
            for task in range(n)
        ]


CODER = band_of("Qwen/Qwen2.5-Coder-0.5B-Instruct")


def refusal(summary, band=CODER):
    with pytest.raises(Uncalibrated) as error:
        judge(summary, band, name="models/some-model", say=print)
    return str(error.value)


def test_a_model_within_its_band_is_said_to_be():
    said = []
    judge(Summary(16, 32, {"wrong_answer": 16}), CODER, name="m", say=said.append)
    assert said[0].startswith("calibration: base model 16 of 32") and "known: 36% to 53%" in said[0]


def test_a_prompt_that_hides_the_functions_name_is_refused_and_named():
    text = refusal(Summary(1, 32, {"NameError": 28, "wrong_answer": 3}))
    assert "got base model 1 of 32" in text
    assert "NameError                  28  " + "#" * 36 in text
    assert "wrong_answer                3  ####" in text
    assert "may not name the tested function" in text


def test_an_extraction_that_keeps_fences_is_refused_and_named():
    text = refusal(Summary(0, 32, {"SyntaxError": 32}))
    assert "the extraction may keep text that is not code" in text


def test_answers_that_pass_too_often_are_refused_too():
    text = refusal(Summary(31, 32, {"wrong_answer": 1}))
    assert "answers pass that must not" in text


def test_an_interval_that_reaches_the_band_is_no_ground_to_refuse():
    said = []
    judge(Summary(9, 32, {"wrong_answer": 23}), CODER, name="m", say=said.append)
    assert said


@pytest.mark.parametrize(
    ("name", "low"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.25),
        ("/data/Qwen2.5-Coder-0.5B-Instruct", 0.36),
        ("models/smollm2-135m", 0.05),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.05),
    ],
)
def test_a_model_is_known_by_its_hub_name_or_folder(name, low):
    assert band_of(name).low == low


def test_other_models_are_not_known():
    assert band_of("meta/Other-7B") is None
    assert all(0.0 <= band.low < band.high <= 1.0 and band.source for band in BANDS)


def test_a_band_says_what_it_rests_on_and_holds_what_was_measured():
    for band in BANDS:
        if band.measured is None:
            assert "not measured" in band.protocol and "published" in band.source
            continue
        low, high = wilson(*band.measured)
        assert band.low <= low + 0.02 and band.high >= high - 0.001  # given in whole percents
        assert f"measured here: {band.measured[0]} of {band.measured[1]}" in band.source
    assert "378 other problems and another prompt" in CODER.source


def test_an_unknown_model_needs_to_be_allowed(config_file, hashed_grades):
    options = parse_options(config_file(allow_uncalibrated=False))
    with pytest.raises(
        ConfigError, match=r"must be known before training.*--allow_uncalibrated true"
    ):
        train("sdpo", options, say=print)


@pytest.fixture
def gated(config_file, monkeypatch, hashed_grades, tiny_model):
    """A run of the tiny model under a band of its own."""

    def go(low, high):
        band = type(BANDS[0])((tiny_model.name.lower(),), low, high, "a test")
        monkeypatch.setattr("trainer.training.calibration.BANDS", (band,))
        said = []
        options = parse_options(
            config_file(
                allow_uncalibrated=False,
                calibration_problems=4,
                eval_dataset="embedded/test",
                max_steps=1,
            )
        )
        return train("sdpo", options, say=said.append), said

    return go


@pytest.mark.slow
def test_a_run_within_the_band_says_so_and_trains(gated):
    result, said = gated(0.0, 1.0)
    assert result.n_steps == 1
    assert any(line.startswith("calibration: base model") for line in said)


def test_a_run_outside_the_band_trains_nothing(gated, tmp_path):
    with pytest.raises(Uncalibrated, match="likely cause"):
        gated(0.98, 0.99)
    (run_dir,) = (tmp_path / "runs").glob("train-*")
    assert not list(run_dir.glob("checkpoints/*")) and not (run_dir / "adapter").exists()
