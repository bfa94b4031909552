"""The views of a run's database: questions that are asked often, each as one SELECT over the tables in `columns`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """`columns`: each with what it says, in the order of the SELECT."""

    name: str
    about: str
    columns: dict[str, str]
    select: str


VIEWS = (
    View(
        "samples",
        "What may be trained on: counted harvests that took effect, and rehearsals.",
        {
            "sequence": "run sequence of the harvest or rehearsal",
            "origin": "harvest or rehearsal",
            "round": "from 0",
            "path": "main, secondary and sub-domain",
            "question": "the question",
            "answer": "the best answer, or the target's own",
            "author": "model that wrote the answer",
            "draws": "how often trainings drew it",
            "trainings": "how many trainings drew it",
        },
        """
        WITH drawn AS (
            SELECT sample, count(*) AS draws, count(DISTINCT sequence) AS trainings
            FROM training_samples GROUP BY sample
        ), sample AS (
            SELECT sequence, 'harvest' AS origin, round, path, question, best_answer AS answer, best AS author
            FROM harvests WHERE took_effect AND counted
            UNION ALL
            SELECT sequence, 'rehearsal', round, path, question, answer, model FROM rehearsals WHERE took_effect
        )
        SELECT sample.*, coalesce(draws, 0) AS draws, coalesce(trainings, 0) AS trainings
        FROM sample LEFT JOIN drawn ON drawn.sample = sample.sequence ORDER BY sequence
        """,
    ),
    View(
        "versions",
        "The target's versions in the order of their trainings, and how each came out.",
        {
            "version": "its name",
            "round": "from 0",
            "base_version": "from which it started",
            "promoted": "it took the target's place; null: the training is not over",
            "failure": "rejected, unavailable or blocked",
            "reason": "of the failure",
            "draws": "samples drawn, repeats counted",
            "samples": "different ones",
            "from_rehearsal": "draws from the rehearsals",
            "steps": "of the optimizer",
            "loss_first": "mean of the first steps, in nats a token",
            "loss_last": "mean of the last steps",
            "seconds": "of the training",
            "manifest_digest": "SHA-256 of the version's manifest",
        },
        """
        SELECT t.version, t.round, t.base_version, r.promoted, r.failure, r.reason, t.draws, t.samples,
            t.from_rehearsal, r.steps, r.loss_first, r.loss_last, r.seconds, r.manifest_digest
        FROM trainings t LEFT JOIN training_results r USING (request_hash) ORDER BY t.sequence
        """,
    ),
    View(
        "wins",
        "Who wins where: counted harvests that took effect, by domain and model with the best answer.",
        {
            "path": "main, secondary and sub-domain",
            "model": "with the best answer",
            "wins": "harvests in which it had",
            "harvests": "of the domain",
            "share": "wins of harvests",
        },
        """
        SELECT path, best AS model, count(*) AS wins, sum(count(*)) OVER (PARTITION BY path) AS harvests,
            count(*) / sum(count(*)) OVER (PARTITION BY path) AS share
        FROM harvests WHERE took_effect AND counted GROUP BY path, best ORDER BY path, wins DESC, model
        """,
    ),
    View(
        "losses",
        "How often the target lost, by domain and round.",
        {
            "path": "main, secondary and sub-domain",
            "round": "from 0",
            "harvests": "counted, that took effect",
            "lost": "in which a source was better",
            "share": "lost of harvests",
        },
        """
        SELECT path, round, count(*) AS harvests, sum(reward) AS lost, avg(reward) AS share
        FROM harvests WHERE took_effect AND counted GROUP BY path, round ORDER BY path, round
        """,
    ),
    View(
        "judges",
        "How each judge chose.",
        {
            "judge": "its name",
            "verdicts": "that it gave",
            "chose": "an answer",
            "none_right": "said that none is right",
            "as_the_outcome": "share of its choices that are the outcome, where there is one",
            "shown_first": "share of its choices that were shown first",
            "first_by_chance": "... by a judge to whom the place says nothing",
        },
        """
        SELECT judge, count(*) AS verdicts, count(choice) AS chose, count_if(v.none_right) AS none_right,
            avg(CAST(choice = best_position AS INTEGER)) FILTER (counted_harvest) AS as_the_outcome,
            avg(CAST(chosen_place = 0 AS INTEGER)) AS shown_first,
            avg(1 / len(shown)) FILTER (choice IS NOT NULL) AS first_by_chance
        FROM verdicts v JOIN (SELECT sequence, best_position, counted AS counted_harvest FROM harvests) USING (sequence)
        GROUP BY judge ORDER BY judge
        """,
    ),
    View(
        "scores",
        "What evaluations gave, a row for each model, version and benchmark; of one done twice the last.",
        {
            "model": "that was evaluated",
            "version": "of the target; empty for a source",
            "benchmark": "file of questions, or tasks",
            "metric": "accuracy, or the harness's name for it",
            "mean": "over domains or tasks, each alike",
            "domains": "or tasks",
        },
        """
        SELECT model, version, benchmark, metric, avg(value) AS mean, count(*) AS domains
        FROM evaluations
        WHERE sequence IN (SELECT max(sequence) FROM evaluations GROUP BY model, version, benchmark, harness)
        GROUP BY sequence, model, version, benchmark, metric ORDER BY sequence, metric
        """,
    ),
    View(
        "tokens",
        "What each model read and wrote, over all events.",
        {
            "model": "its name",
            "calls": "how many",
            "prompt_tokens": "read",
            "completion_tokens": "written",
        },
        """
        SELECT model, sum(calls) AS calls, sum(prompt_tokens) AS prompt_tokens,
            sum(completion_tokens) AS completion_tokens
        FROM usage GROUP BY model ORDER BY model
        """,
    ),
    View(
        "history",
        "The table `posteriors` with each node's name and level.",
        {
            "sequence": "run sequence of the event",
            "round": "from 0",
            "node": "id",
            "path": "names from the first level down",
            "level": "1 main, 2 secondary, 3 sub-domain",
            "why": "born, reward or rebirth",
            "alpha": "of the Beta posterior of lambda",
            "beta": "of the Beta posterior of lambda",
            "mean": "of the posterior",
        },
        """
        SELECT p.sequence, p.round, p.node, n.path, n.level, p.why, p.alpha, p.beta, p.mean
        FROM posteriors p JOIN nodes n USING (node) ORDER BY p.sequence, p.node
        """,
    ),
)
