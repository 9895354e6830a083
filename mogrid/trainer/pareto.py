"""``ParetoTrainer``: sentence-transformers' trainer, with several objectives and a solver that weighs them.

Made of a mixin over the hooks of ``transformers.Trainer``; the training loop itself is untouched, so accumulation,
clipping, mixed precision, schedulers, callbacks, checkpoints and evaluation are the trainer's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from mogrid.gradients import mode_settings
from mogrid.trainer.mixin import MultiObjectiveMixin

__all__ = ["ParetoTrainer", "ParetoTrainingArguments"]


@dataclass
class ParetoTrainingArguments(SentenceTransformerTrainingArguments):
    """``SentenceTransformerTrainingArguments`` with what several objectives need. Plain ones work too.

    Parameters
    ----------
    objective_batch_sizes : dict of str to int, optional
        Batch size per device by objective; ``per_device_train_batch_size`` for those left out.
    gradient_statistics : bool
        Record gradient norms and pairwise cosines of every step for every solver. Costs K - 1 gradient copies of
        memory with solvers that do not need per-objective gradients; False gives those one ordinary backward.
    gradients : str or dict
        What the weights follow from, and at what cost: ``"exact"``, ``"last_layers"``, ``"sketch"``,
        ``"representation"`` or ``"cached"``, or a dict with settings such as ``{"mode": "sketch", "size": 1024}``;
        see `mogrid.gradients.make_engine`.
    """

    objective_batch_sizes: dict[str, int] | None = field(default=None)
    gradient_statistics: bool = field(default=True)
    gradients: dict[str, Any] | str = field(default="exact")  # in this order for HfArgumentParser

    def __post_init__(self) -> None:
        mode_settings(self.gradients)
        super().__post_init__()


class ParetoTrainer(MultiObjectiveMixin, SentenceTransformerTrainer):
    """Train a ``SentenceTransformer`` for several objectives at once.

    Parameters
    ----------
    model, args, eval_dataset, evaluator, callbacks, ...
        As for ``SentenceTransformerTrainer``.
    train_dataset : dict of str to datasets.Dataset
        One dataset per objective, its columns as that objective's loss expects. Columns of these names are no model
        input but steer sampling, which keeps known false negatives out of in-batch losses and every row in the epoch:
        ``document_ids``, an id or a list of those of the row's document and its hard negatives, and ``relevant_ids``,
        those of all documents relevant to its query (`mogrid.data.training_pairs` makes both): two rows exclude each
        other where a document of one is relevant to the query of the other; ``group``, a number or a text: rows of
        equal group exclude each other. ``label`` and ``score`` are the loss's, as in sentence-transformers; only losses
        over domains (``balanced_over = "label"``) have batches that are balanced by it.
    loss : dict of str to loss
        One sentence-transformers loss, or any callable module returning a scalar, per objective.
    solver : Solver, str or dict, optional
        ``MGDA()``, ``"mgda"`` or ``{"name": "pareto_target", "preference": {...}}``.
    mix : dict of str to float, optional
        Each objective's share of the effort, ``{"effectiveness": 0.6, "ood": 0.4}``. The solver may be left out then.
    spend : "rows", "weights" or "steps", optional
        Whether the shares are of each batch's rows (the default), of the loss's weight, or of the steps.
    terms : dict of str to sequence of str, optional
        Of these, more in `MultiObjectiveMixin`.

    Raises
    ------
    ConfigError, DataError, SolverError
        An objective lacks a dataset, pairs or a loss; names do not match; the solver's settings are wrong.
    NonFiniteLossError, NonFiniteGradientError
        During training; the message names the objective and the step.

    Examples
    --------
    >>> trainer = ParetoTrainer(  # doctest: +SKIP
    ...     model=model,
    ...     train_dataset={"effectiveness": pairs, "ood": other_domains},
    ...     loss={"effectiveness": MultipleNegativesRankingLoss(model), "ood": WorstDomainLoss(...)},
    ...     solver="mgda",
    ... )
    >>> trainer.train()  # doctest: +SKIP
    """
