"""The tables of a run: their columns, with types and units. Files, database and docs/exports.md are made from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """`type`: int (64 bits), id (64 bits, no sign), real, text, flag, time, texts or ints (lists), messages (of a
    conversation: role and content)."""

    name: str
    type: str
    about: str


@dataclass(frozen=True)
class Table:
    name: str
    about: str
    columns: tuple[Column, ...]


def _columns(spec: str) -> tuple[Column, ...]:
    """Of lines `name type what it says`."""
    return tuple(Column(*line.split(maxsplit=2)) for line in spec.splitlines() if line)


_SEQUENCE = "sequence int the event's place in its run, from 0\n"
_PLACE = """
round int from 0
step int of the round, from 0
slot int of the step, from 0
"""
_QUESTION = """
path texts main, secondary and sub-domain
question text the question
leader text source that wrote the question
question_style text what the question was to be like; empty: nothing was said
prompts text set of prompts, with its version
question_prompt_tokens int read to write the question
question_completion_tokens int written for the question
"""
_ANSWER = """
model text who answered
version text of the target; empty for a source
{text} text the answer
finish_reason text why it ended, as the server said
prompt_tokens int read
completion_tokens int written
seconds real of the call
failed text why it takes no part; empty when it does
truncated flag longer than a record allows, and cut
mean_logprob real of its tokens, natural; null where the server does not say
"""

RUN = Table(
    "run",
    "The run, one row.",
    _columns("""
run_id text the run
bohdi_version text that started it
preset text of the configuration
prompts text set of prompts
target text name of the model that is made better
sources texts names of the models it learns from
seed id of every draw
settings text all settings, as JSON
events int how many the run had when this was written
round int rounds that are over
target_version text the last version promoted
finished text why it is over; empty while it is not
state_sha256 text hash of the state that the events add up to
"""),
)
EVENTS = Table(
    "events",
    "Every event of the run. What it says stands in the table of its kind.",
    _columns(
        _SEQUENCE
        + "event_id text follows from what the event is about\ncause_id text the event that made it happen\n"
        + "kind text body in proto/bohdi/v1/events.proto\n"
        + _PLACE
        + "time time by the writer's clock, UTC; orders nothing\nproducer text service that wrote it\n"
        + "request_hash text the request that it answers, or asks; empty for other kinds\n"
    ),
)
USAGE = Table(
    "usage",
    "Tokens of models' calls, a row for each model in each event.",
    _columns(
        _SEQUENCE
        + """
model text who was asked
prompt_tokens int read
completion_tokens int written
calls int how often
"""
    ),
)
DRAWS = Table(
    "draws",
    "Every path drawn: the slots of PathsDrawn, and of SlotContinued.",
    _columns(
        _SEQUENCE
        + _PLACE
        + """
attempt int how often the slot went on after a sprout
based_on int run sequence of the state in which it was drawn
rehearsal flag the target rehearses: not by the posteriors
nodes ints ids from the first level down; fewer than three: the draw came to the `unk` arm of the last
leader text source that writes the question
request_hash text what is asked; empty while a domain is to be found first
given_up flag the slot was given up
"""
    ),
)
HARVESTS = Table(
    "harvests",
    "Every harvest that was judged, late ones too.",
    _columns(
        _SEQUENCE
        + _PLACE
        + _QUESTION
        + """
target_version text of the target that answered
answers int how many are in the table `answers`
best_position int the best among them, from 0; null: none
best text model with the best answer; empty: none
best_answer text its answer
counted flag there is a verdict
none_right flag the judges say that no answer is right
reward int 1: the target lost, 0: it won; null without a verdict
took_effect flag the posteriors know of it, and it may be trained on
"""
    ),
)
ANSWERS = Table(
    "answers",
    "Every answer in a harvest.",
    _columns(
        _SEQUENCE
        + "position int among the harvest's, from 0: the target's first\n"
        + _ANSWER.format(text="text")
        + "best flag the judges found it best\n"
    ),
)
VERDICTS = Table(
    "verdicts",
    "Every verdict on a harvest.",
    _columns(
        _SEQUENCE
        + """
number int among the harvest's, from 0
judge text who judged
shown ints positions of the answers, in the order in which they were shown
choice int position of the answer chosen; null: none
chosen text model that wrote it
chosen_place int where it was shown, from 0
reply text what the judge said
counted flag it enters the judge's vote
none_right flag the judge says that no answer is right
prompt_tokens int read
completion_tokens int written
"""
    ),
)
REHEARSALS = Table(
    "rehearsals",
    "Every question that the target rehearsed, with its answer.",
    _columns(
        _SEQUENCE + _PLACE + _QUESTION + _ANSWER.format(text="answer") + "took_effect flag it may be trained on\n"
    ),
)
REFUSALS = Table(
    "refusals",
    "What the gates kept out.",
    _columns(
        _SEQUENCE
        + """
what text question or answer
model text who wrote it
gate text benchmark, near_duplicate, language, refusal or cut
reason text one of few
text text how it begins
like_request text request of the earlier question that it is like
"""
    ),
)
FAILURES = Table(
    "failures",
    "Harvests, sprouts and trainings that failed, and slots that expired.",
    _columns(
        _SEQUENCE
        + _PLACE
        + """
kind text harvest_failed, sprout_failed, training_failed or slot_expired
class text rejected, unavailable or blocked; empty for what expired
reason text in words
stage text of a harvest: question, answers, verdict or gate
question text of a harvest, where it came so far
"""
    ),
)
SPROUTS = Table(
    "sprouts",
    "Names that were found for new domains; the fold adds those that are valid, new and wanted.",
    _columns(
        _SEQUENCE
        + """
parent int id of the node above
name text of the domain
votes int proposals of it
prompts text set of prompts
"""
    ),
)
PROPOSALS = Table(
    "proposals",
    "Every name that a source proposed.",
    _columns(
        _SEQUENCE
        + """
parent int id of the node above
model text who proposed it
text text as it was said
votes int how often
refused text why it was not taken; empty for a valid name
"""
    ),
)
REBIRTHS = Table(
    "rebirths",
    "Nodes that Introspection-Rebirth found changed.",
    _columns(
        _SEQUENCE
        + """
round int from 0
node int id
window_sum int losses of the target in the window
window_length int rewards in the window
statistic real likelihood ratio
p_value real of the test
"""
    ),
)
TRAININGS = Table(
    "trainings",
    "Every training that was drawn.",
    _columns(
        _SEQUENCE
        + """
round int from 0
version text that it makes
base_version text from which it starts
average_with texts versions with which its weights are averaged
draws int samples drawn, repeats counted
samples int different ones
from_rehearsal int draws from the rehearsals
from_replay int draws from all leaves alike
request_hash text names it
"""
    ),
)
TRAINING_SAMPLES = Table(
    "training_samples",
    "What each training drew, in the order of training.",
    _columns(
        _SEQUENCE
        + """
position int in the training, from 0
sample int run sequence of the harvest or rehearsal
"""
    ),
)
TRAINING_RESULTS = Table(
    "training_results",
    "How each training came out.",
    _columns(
        _SEQUENCE
        + """
request_hash text of the training
version text that it makes
promoted flag the version took the target's place
failure text rejected, unavailable or blocked; empty when promoted
reason text of the failure
manifest_digest text SHA-256 of the version's manifest
examples int draws that it learnt
steps int of the optimizer
loss_first real mean of the first steps, in nats a token
loss_last real mean of the last steps
seconds real of the training
tokens int that it read
trial_answer text what the new version said when it was tried
masked_share real tokens too surprising to be learnt
preferences int pairs of a better and a worse answer
preference_loss_first real on them
preference_loss_last real on them
held_back int samples that were only measured
held_back_loss_base real under the version before, in nats a token
held_back_loss real under the new one
launcher text inprocess, torchrun or trainjob
processes int that trained together
resumed_step int from whose checkpoint it went on; 0: the start
"""
    ),
)
EVALUATIONS = Table(
    "evaluations",
    "Scores of a model, a row for each domain or task.",
    _columns(
        _SEQUENCE
        + """
model text that was evaluated
version text of the target; empty for a source
benchmark text file of questions, or tasks
harness text program that scored; empty: exact answers
domain text or task
metric text accuracy, or the harness's name for it
value real the score
stderr real its standard error; null: none was given
questions int that were asked; null: not recorded
"""
    ),
)
NODES = Table(
    "nodes",
    "The domains as they are at the end. lambda is the probability that the target loses there.",
    _columns("""
node int id
parent int id of the node above; 0: Root
path texts names from the first level down
level int 1 main, 2 secondary, 3 sub-domain
alpha int of the Beta posterior of lambda
beta int of the Beta posterior of lambda
mean real of the posterior
rewards int in the posterior
window_wins int losses of the target in the window
rebirths int by Introspection-Rebirth
pairs int harvests that took effect in the leaf; 0 above the leaves
open flag may be drawn
"""),
)
POSTERIORS = Table(
    "posteriors",
    "The nodes over time: a row for each node that an event made or moved, as it was then.",
    _columns(
        _SEQUENCE
        + """
round int from 0
node int id
why text born, reward or rebirth
alpha int of the Beta posterior of lambda
beta int of the Beta posterior of lambda
mean real of the posterior
window_wins int losses of the target in the window
rebirths int until then
"""
    ),
)

OF_EVENTS = (
    EVENTS, USAGE, DRAWS, HARVESTS, ANSWERS, VERDICTS, REHEARSALS, REFUSALS, FAILURES, SPROUTS, PROPOSALS, REBIRTHS,
    TRAININGS, TRAINING_SAMPLES, TRAINING_RESULTS, EVALUATIONS,
)  # fmt: skip
TABLES = (RUN, *OF_EVENTS, NODES, POSTERIORS)
