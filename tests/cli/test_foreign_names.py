"""What is promised in place of other tools' names exists here."""

from __future__ import annotations

import re
from pathlib import Path

from bluestab.cli.foreign_names import CHOICES, INSTEAD, LAUNCHERS, RENAMED
from bluestab.cli.unknown import known_keys
from bluestab.core.catalogue import entries
from bluestab.core.paths import conf_dir

ROOT = Path(__file__).parents[2]
NAMES = re.compile(
    r"\b([a-z_]+(?:\.[a-z_0-9]+)+|(?:device|keep|technique|store|logger|profile|on_oom))="
)


def test_what_is_named_in_place_of_it_exists() -> None:
    keys = {*known_keys(), "model.path", "hydra/launcher", "hydra/sweeper"}
    own_task = known_keys(["task=pair_classification"])
    assert set(RENAMED.values()) - keys - {*own_task} == set()
    for said in INSTEAD.values():
        for name in NAMES.findall(said):
            technique = re.fullmatch(r"technique\.(\w+)\..*", name)
            known = technique[1] in entries("technique") if technique else name in keys
            assert known or name in ("hydra.sweeper",), name
    for group, names in CHOICES.items():
        there = {file.stem for file in (conf_dir() / group).glob("*.yaml")}
        assert set(names.values()) <= there
        assert not set(names) & (there - {"basic"})


def test_the_usual_names_are_there() -> None:
    """Of TrainingArguments, of Trainer, of templates; a name that we have too needs no entry."""
    usual = """output_dir do_train eval_strategy evaluation_strategy per_device_train_batch_size
        per_device_eval_batch_size gradient_accumulation_steps learning_rate adam_beta1 adam_beta2
        adam_epsilon max_grad_norm num_train_epochs max_steps lr_scheduler_type warmup_ratio
        warmup_steps logging_dir logging_steps save_strategy save_steps save_total_limit no_cuda
        use_cpu fp16 bf16 local_rank dataloader_num_workers run_name load_best_model_at_end
        metric_for_best_model greater_is_better deepspeed fsdp label_smoothing_factor
        group_by_length report_to resume_from_checkpoint push_to_hub full_determinism
        torch_compile auto_find_batch_size neftune_noise_alpha max_epochs accelerator strategy
        val_check_interval check_val_every_n_epoch limit_train_batches fast_dev_run
        gradient_clip_val accumulate_grad_batches default_root_dir deterministic profiler
        ckpt_path callbacks experiment hparams_search model_name_or_path train_file
        validation_file test_file max_seq_length dataset_name task_name optimizer scheduler"""
    assert [name for name in usual.split() if name not in {**RENAMED, **INSTEAD}] == []


def test_the_table_of_the_docs_says_the_same() -> None:
    page = (ROOT / "docs/help/names-elsewhere.md").read_text()
    table = page.partition("| transformers, Lightning, Hydra")[2]
    assert table
    rows = table.partition("\n\n")[0].splitlines()[2:]
    for row in rows:
        theirs, here = row.strip("| ").split(" | ")
        for name in re.findall(r"`(\w+)(?:=\w+)?`", theirs):
            if name not in LAUNCHERS:
                said = RENAMED.get(name) or INSTEAD[name]
                assert any(part in said for part in re.findall(r"`([\w./ +=-]+)`", here)) or (
                    "nothing to set" in said
                ), name
