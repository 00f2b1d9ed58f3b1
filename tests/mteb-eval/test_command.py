"""The command as a user meets it: table, measures, demands, options and refusals."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """Whoever runs the tests may have a narrow one."""
    monkeypatch.setenv("COLUMNS", "120")


def test_the_table_shows_base_and_tuned_side_by_side_with_change_and_verdict(
    model, destroyed, evaluate, examples, write
):
    ran = evaluate(
        f"base={model}", f"tuned={destroyed}", "--examples", f"faq={write('test.jsonl', examples)}"
    )
    assert ran.rc == 0, ran.err
    lines = ran.text.splitlines()
    assert lines[0] == "faq, 12 queries, 12 documents"
    assert lines[1].split() == ["base", "tuned", "change"]
    figure = r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]"
    assert re.fullmatch(
        rf"  nDCG@10 +{figure} +{figure} +[+-]\d\.\d{{3}} \[.*\] (better|worse|unclear), p . \d\.\d{{3}}",
        lines[2],
    )
    assert [line.split()[0] for line in lines[2:5]] == ["nDCG@10", "MRR@10", "Recall@100"]
    assert "fell most" in ran.text
    assert re.search(r"1 → \d+ +\S", ran.text)


def test_more_models_stand_one_below_the_other(model, destroyed, evaluate, examples, write):
    ran = evaluate(
        f"a={model}",
        f"b={destroyed}",
        f"c={model}",
        "--examples",
        write("t.jsonl", examples),
        "--baseline",
        "b",
        "--changed",
        0,
    )
    rows = ran.text.splitlines()[1:]
    assert rows[0].split() == ["nDCG@10", "MRR@10", "Recall@100"]
    assert [row.split()[0] for row in rows if re.match(r"  [abc] ", row)] == ["a", "b", "c"]
    assert "rose most" not in ran.text
    assert rows[2].split()[0].startswith(("+", "-"))  # a is compared with b


def test_a_narrow_terminal_gets_the_values_without_their_intervals(
    model, destroyed, evaluate, examples, write, monkeypatch
):
    command = [
        f"a={model}",
        f"b={destroyed}",
        "--examples",
        write("t.jsonl", examples),
        "--results",
        "r",
    ]
    monkeypatch.setenv("COLUMNS", "80")
    narrow = evaluate(*command).text.splitlines()
    assert max(map(len, narrow)) <= 80
    assert re.fullmatch(
        r"  nDCG@10 +\d\.\d{3} +\d\.\d{3} +[+-]\d\.\d{3} \[.*\] \w+, p . \d\.\d{3}", narrow[2]
    )
    several = evaluate(*command, f"c={model}", "--changed", 0).text.splitlines()
    assert max(map(len, several)) <= 80
    monkeypatch.setenv("COLUMNS", "200")
    assert narrow[2].split()[1] + " [" in evaluate(*command).text


def test_queries_of_more_than_three_runs_stand_on_the_page_alone(
    model, destroyed, evaluate, examples, write
):
    command = [
        f"a={model}",
        f"b={destroyed}",
        "--examples",
        write("t.jsonl", examples),
        "--results",
        "r",
    ]
    assert evaluate(*command, "--dims", "32,8").text.count(" against a:") == 3
    ran = evaluate(*command, "--dims", "32,16,8", "--html", "page.html")
    assert ran.rc == 0, ran.err
    assert " against a:" not in ran.text
    page = Path("page.html").read_text("utf-8")
    assert page.count("against a</h3>") == 5
    assert "fell most" in page


def test_every_run_of_the_page_has_a_colour_of_its_own(model, evaluate, examples, write):
    sizes = ",".join(map(str, range(20, 32)))
    ran = evaluate(
        f"m={model}",
        "--examples",
        write("t.jsonl", examples),
        "--dims",
        sizes,
        "--changed",
        0,
        "--html",
        "page.html",
    )
    assert ran.rc == 0, ran.err
    legend = re.search(r'<p class="legend">.*?</p>', Path("page.html").read_text("utf-8"))
    colours = re.findall(r"color: ([^\"]*)", legend[0])
    assert len(colours) == len(set(colours)) == 12


def test_models_are_called_by_the_shortest_end_of_their_paths(
    model, destroyed, evaluate, examples, write, tmp_path
):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "model").symlink_to(model)
    (tmp_path / "model").symlink_to(destroyed)
    ran = evaluate(
        "one/model",
        str(tmp_path / "model"),
        "--examples",
        write("t.jsonl", examples),
        "-o",
        "out.jsonl",
    )
    assert ran.rc == 0, ran.err
    runs = {json.loads(line)["run"] for line in Path("out.jsonl").read_text().splitlines()}
    assert runs == {"one/model", f"{tmp_path.name}/model"}


def test_measures_follow_their_schema_and_say_how_each_figure_was_made(
    model, destroyed, evaluate, examples, write
):
    from fletching.io import Reader
    from fletching.report import Report

    command = [
        f"a={model}",
        f"b={destroyed}",
        "--examples",
        write("t.jsonl", examples),
        "-o",
        "out.parquet",
        "--doc-length",
        16,
    ]
    assert evaluate(*command, "--metrics", "MAP@5,ndcg_at_3").rc == 0
    table = Reader(Report("test", quiet=True), ["out.parquet"], "measures").read_all()
    rows = table.to_pylist()
    assert [(row["run"], row["name"]) for row in rows if row["name"].startswith("map")] == [
        ("a", "map_at_5"),
        ("b", "map_at_5"),
        ("b", "map_at_5_change"),
    ]
    for row in rows:
        assert row["low"] <= row["value"] <= row["high"]
        assert row["count"] == 12
        settings = json.loads(row["settings"])
        assert settings["lengths"] == {"query": 64, "document": 16}
        assert settings["dtype"] == "float32"
        assert settings["prompts_used"] == {"document": "", "query": ""}
    assert len({json.loads(row["settings"])["fingerprint"] for row in rows}) == 2
    assert str(Path.cwd()) not in str(pq.read_schema("out.parquet").metadata)


def test_an_arrow_stream_leaves_stdout_to_the_measures(model, evaluate, examples, write):
    import pyarrow as pa

    ran = evaluate(model, "--examples", write("t.jsonl", examples), "-o", "-")
    assert pa.ipc.open_stream(ran.out).read_all().num_rows == 3
    assert "nDCG@10" in ran.err


def test_several_sets_are_told_apart_and_equal_queries_are_merged(
    model, evaluate, measures, examples, write
):
    doubled = [*examples, {"query": examples[0]["query"], "pos": ["Owls hunt when it is dark."]}]
    ran = evaluate(
        model,
        "--examples",
        write("one.jsonl", examples),
        "--examples",
        f"two={write('x.jsonl', doubled)}",
        "--limit",
        13,
        "-o",
        "out.jsonl",
    )
    assert ran.text.splitlines()[0].startswith("one, 12 queries, 12 documents")
    assert "two, 12 queries, 13 documents" in ran.text
    assert {row["count"] for row in measures("out.jsonl").values()} == {12}


def test_corpus_and_negatives_make_the_task_harder(model, evaluate, examples, write):
    documents = [
        {"id": f"x{number}", "title": "More", "text": f"Something else, number {number}."}
        for number in range(5)
    ]
    with_negatives = [row | {"neg": ["Nothing of that.", row["pos"][0]]} for row in examples]
    path, corpus = write("t.jsonl", with_negatives), write("corpus.jsonl", documents)
    assert "12 documents" in evaluate(model, "--examples", path).text
    assert "17 documents" in evaluate(model, "--examples", path, "--corpus", corpus).text
    assert "13 documents" in evaluate(model, "--examples", path, "--corpus-negatives").text
    assert "4 documents" in evaluate(model, "--examples", path, "--limit", 4).text


def test_the_table_names_dimensions_and_number_types(model, evaluate, examples, write):
    ran = evaluate(
        f"m={model}",
        "--examples",
        write("t.jsonl", examples),
        "--dims",
        "32,8",
        "--quantise",
        "binary",
        "--changed",
        0,
    )
    assert [line.split()[0] for line in ran.text.splitlines() if line.startswith("  m")] == [
        "m",
        "m@binary",
        "m@8",
        "m@8-binary",
    ]
    ran = evaluate(f"m={model}", "--examples", "t.jsonl", "--dims", "64")
    assert ran.rc == 2
    assert "--dims 64 is above the 32 dimensions" in ran.err


def test_prompts_of_the_model_are_used_and_those_of_the_data_must_agree(
    model, evaluate, measures, examples, write, tmp_path
):
    from sentence_transformers import SentenceTransformer

    prompted = SentenceTransformer(
        model, device="cpu", prompts={"query": "search: ", "document": "text: "}
    )
    prompted.save(str(tmp_path / "prompted"), create_model_card=False)
    path = write("t.jsonl", examples)
    assert evaluate(f"m={model}", "p=prompted", "--examples", path, "-o", "out.jsonl").rc == 0
    settings = {
        run: json.loads(row["settings"])["prompts_used"]
        for (run, _, _), row in measures("out.jsonl").items()
    }
    assert settings == {
        "m": {"document": "", "query": ""},
        "p": {"document": "text: ", "query": "search: "},
    }
    # the same prompts by hand on the plain model give the same figures
    assert (
        evaluate(
            f"m={model}",
            "--query-prompt",
            "search: ",
            "--doc-prompt",
            "text: ",
            "--examples",
            path,
            "-o",
            "by-hand.jsonl",
        ).rc
        == 0
    )
    assert (
        measures("by-hand.jsonl")["m", "t", "mrr_at_10"]["value"]
        == measures("out.jsonl")["p", "t", "mrr_at_10"]["value"]
    )
    # the data's own prompt reaches a model without one
    with_prompts = write("asked.jsonl", [row | {"prompt": "search: "} for row in examples])
    assert (
        evaluate(
            f"m={model}", "--doc-prompt", "text: ", "--examples", with_prompts, "-o", "data.jsonl"
        ).rc
        == 0
    )
    assert (
        measures("data.jsonl")["m", "asked", "mrr_at_10"]["value"]
        == measures("out.jsonl")["p", "t", "mrr_at_10"]["value"]
    )
    # and must not contradict a model that has one, nor may the command line
    other = write("other.jsonl", [row | {"prompt": "find: "} for row in examples])
    clash = evaluate("p=prompted", "--examples", other)
    assert clash.rc == 1
    assert "find: " in clash.err
    clash = evaluate("p=prompted", "--examples", path, "--query-prompt", "find: ")
    assert clash.rc == 1
    assert "was saved with the query prompt 'search: '" in clash.err


@pytest.mark.parametrize(
    ("demand", "rc", "message"),
    [
        (["--require-gain", "ndcg_at_10=0"], 1, "--require-gain asks for more than +0"),
        (["--require-gain", "nDCG@10=-1"], 0, ""),
        (["--max-loss", "t=0.0001"], 1, "--max-loss allows a loss of 0.0001"),
        (["--max-loss", "t=1"], 0, ""),
        (
            ["--require-gain", "ndcg_at_10=0", "--max-loss", "t=1"],
            2,
            "every task is under --max-loss",
        ),  # a guarded task need not gain
        (["--require-gain", "ndcg=0"], 2, "--metrics adds others"),
        (["--require-gain", "ndcg_at_10"], 2, "is not NAME=NUMBER"),
        (["--max-loss", "other=0.1"], 2, "not a task of this run"),
    ],
)
def test_demands_decide_the_exit_code(
    demand, rc, message, model, destroyed, evaluate, examples, write
):
    ran = evaluate(
        f"base={model}",
        f"worse={destroyed}",
        "--examples",
        write("t.jsonl", examples),
        *demand,
        "--results",
        "r",
    )
    assert ran.rc == rc, ran.err
    assert message in ran.err
    assert (rc == 2) == ("loading" not in ran.err)  # a wrong demand is refused before the work


def test_a_guarded_task_need_not_gain_beside_one_that_must(
    model, destroyed, evaluate, examples, write
):
    turned = [{"query": row["pos"][0], "pos": [row["query"]]} for row in examples]
    sets = [
        "--examples",
        write("own.jsonl", examples),
        "--examples",
        write("general.jsonl", turned),
    ]
    ran = evaluate(
        f"a={model}",
        f"b={destroyed}",
        *sets,
        "--require-gain",
        "ndcg_at_10=0",
        "--max-loss",
        "general=1",
    )
    assert ran.rc == 1
    assert [line for line in ran.err.splitlines() if "--require-gain" in line] == [
        line for line in ran.err.splitlines() if " on own by " in line
    ]
    assert " on general by " not in ran.err


@pytest.mark.slow
def test_examples_come_from_a_pipe_too(model, run, examples, write, tmp_path):
    write(tmp_path / "t.arrows", examples)
    ran = run(f"cat t.arrows | mteb-eval {model} --examples - --quiet", cwd=tmp_path)
    assert ran.rc == 0, ran.err
    assert ran.text.startswith("stdin, 12 queries")


def test_examples_from_a_stream_that_was_cut_are_refused(model, evaluate, examples, write):
    write("t.arrows", examples)
    ran = evaluate(model, "--examples", "-", stdin=Path("t.arrows").read_bytes()[:900])
    assert ran.rc == 1
    assert not ran.out


def test_a_missed_demand_still_prints_the_table_and_writes_the_measures(
    model, destroyed, evaluate, examples, write
):
    ran = evaluate(
        model,
        destroyed,
        "--examples",
        write("t.jsonl", examples),
        "--require-gain",
        "mrr_at_10=0",
        "-o",
        "out.jsonl",
        "--quiet",
    )
    assert ran.rc == 1
    assert "MRR@10" in ran.text
    assert Path("out.jsonl").exists()
    assert ran.err.startswith("mteb-eval: destroyed changes MRR@10 on t by -")


def test_training_texts_in_the_test_set_are_flagged(model, evaluate, examples, write):
    long = {
        "query": "one two three four five six seven eight nine ten?",
        "pos": ["A text of its own."],
    }
    near = {
        "query": "zero one two three four five six seven eight nine ten eleven",
        "pos": ["Another one."],
    }
    test, train = (
        write("t.jsonl", [*examples, long]),
        write("train.jsonl", [examples[0] | {"query": "  WHEN does the owl hunt? "}, near]),
    )
    ran = evaluate(model, "--examples", test, "--training", train)
    assert (
        "  ! 1 of 13 queries are in the training data word for word, 1 more nearly so" in ran.text
    )
    assert "  ! 1 of 13 relevant documents are in the training data word for word" in ran.text
    assert (
        "!"
        not in evaluate(
            model, "--examples", test, "--training", write("other.jsonl", [near | {"query": "q"}])
        ).text
    )


def test_another_seed_draws_other_resamples_around_the_same_figure(model, evaluate, measures):
    words = ("owl", "bread", "tide", "iron", "violin", "glacier", "chess", "honey")
    pairs = enumerate(itertools.pairwise(words))
    lines = [f"the {a},the {b} of {a},{number * 7 % 5}\n" for number, (a, b) in pairs]
    Path("s.csv").write_text("".join(lines))
    for seed in (0, 0, 7):
        argv = ("--sts", "s.csv", "--metrics", "pearson", "--seed", seed, "-o", f"{seed}.jsonl")
        ran = evaluate(f"m={model}", *argv)
        assert ran.rc == 0, ran.err
        assert "s has 7 pairs, fewer than 50" in ran.err
    one, other = (measures(f"{seed}.jsonl")["m", "s", "cosine_pearson"] for seed in (0, 7))
    assert one["value"] == other["value"]
    assert (one["low"], one["high"]) != (other["low"], other["high"])


def test_vectors_that_are_all_alike_are_refused_not_scored(model, evaluate):
    Path("same.csv").write_text("the same,the same,1\nthe same,the same,2\nthe same,the same,3\n")
    ran = evaluate(model, "--sts", "same.csv")
    assert ran.rc == 1
    assert "mteb gives no finite cosine_spearman" in ran.err


def test_a_single_model_shows_its_worst_queries(model, evaluate, examples, write):
    ran = evaluate(model, "--examples", write("t.jsonl", examples), "--changed", 2)
    at = ran.text.splitlines().index("  worst queries (rank of the first relevant document)")
    ranks = [int(line.split()[0]) for line in ran.text.splitlines()[at + 1 :]]
    assert len(ranks) == 2
    assert ranks[0] >= ranks[1] > 1


def test_time_and_memory_stand_in_the_json_summary_alone(model, evaluate, examples, write):
    assert (
        evaluate(
            f"m={model}", "--examples", write("t.jsonl", examples), "--json-summary", "s.json"
        ).rc
        == 0
    )
    message = json.loads(Path("s.json").read_text())["measures"]
    assert message["peak_memory_mb"] > 50
    (spent,) = message["evaluations"]
    assert (spent["run"], spent["task"], spent["texts"]) == ("m", "t", 24)
    assert spent["texts_per_second"] > 0


def test_a_cache_that_is_named_stays_and_serves_the_next_run(
    model, evaluate, examples, write, monkeypatch
):
    from fletching.encode.forward_pass import ForwardPass

    command = [model, "--examples", write("t.jsonl", examples), "--cache", "vectors"]
    assert evaluate(*command).rc == 0
    monkeypatch.setattr(ForwardPass, "vectors", None)  # any forward pass would fail
    assert evaluate(*command).rc == 0


def test_a_static_model_is_evaluated_like_any_other(model, evaluate, examples, write, tmp_path):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = SentenceTransformer(model, device="cpu").tokenizer.backend_tokenizer
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = torch.nn.init.normal_(torch.empty(tokenizer.get_vocab_size(), 16))
    static = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=words.numpy())], device="cpu"
    )
    static.save(str(tmp_path / "static"), create_model_card=False)
    ran = evaluate("static", "--examples", write("t.jsonl", examples), "--dims", "16,4")
    assert ran.rc == 0, ran.err
    assert "static@4" in ran.text


class Checker(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        if tag in ("script", "iframe", "link", "img", "object", "embed") or any(
            name in ("src", "href") or name.startswith("on") for name, _ in attributes
        ):
            self.found.append(tag)


def test_the_page_is_self_contained_and_escapes_what_data_and_names_hold(
    model, destroyed, evaluate, examples, write
):
    examples[0]["query"] += " <script>alert(1)</script>"
    command = [
        f"a={model}",
        f"b={destroyed}",
        "--examples",
        write("t.jsonl", examples),
        "--changed",
        12,
    ]
    assert evaluate(*command, "--html", "page.html").rc == 0
    page = Path("page.html").read_text("utf-8")
    checker = Checker()
    checker.feed(page)
    assert checker.found == []
    assert "&lt;script&gt;alert(1)" in page
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]
    # A strip for each change and one with the scale; bars, recall curves.
    *strips, bars, _ = drawings
    assert len(strips) == 4
    heights = [float(bar.get("height", 0)) for bar in bars.iter("rect")]
    values = [float(number) for number in re.findall(r": (\d\.\d{3}) \[", "".join(bars.itertext()))]
    assert len(heights) == len(values) == 6
    assert heights == pytest.approx([220 * number for number in values], abs=0.3)
    assert evaluate(*command, "--html", "again.html").rc == 0
    assert Path("again.html").read_bytes() == Path("page.html").read_bytes()


@pytest.mark.parametrize(
    ("argv", "rc", "message"),
    [
        ([], 2, "no model is named"),
        (["MODEL"], 2, "no test data is named"),
        (
            ["MODEL", "--examples", "t.jsonl", "--baseline", "x"],
            2,
            "--baseline x is none of the models",
        ),
        (["MODEL", "MODEL", "--examples", "t.jsonl"], 2, "two models are called"),
        (
            ["MODEL", "--examples", "t.jsonl", "--examples", "sub/t.jsonl", "--sts", "t=t.csv"],
            2,
            "two data sets are called t",
        ),
        (["MODEL", "--examples", "missing.jsonl"], 1, "missing.jsonl does not exist"),
        (["MODEL", "--examples", "empty.jsonl"], 1, "holds no rows"),
        (["MODEL", "--examples", "a b=t.jsonl"], 1, "does not exist"),
        (["nowhere/model/at/all", "--examples", "t.jsonl"], 1, "is no folder"),
        (["MODEL", "--examples", "t.jsonl", "-o", "out.txt"], 2, "has no known extension"),
        (["MODEL", "--examples", "t.jsonl", "--html", "no/page.html"], 2, "the folder of --html"),
        (
            ["MODEL", "--examples", "t.jsonl", "--mrr-candidates", "50"],
            1,
            "fewer than --mrr-candidates 50",
        ),
        (["MODEL", "--examples", "t.jsonl", "--quantise", "int4"], 2, "int4"),
        (
            ["MODEL", "--examples", "t.jsonl", "--metrics", "ndcg@7"],
            2,
            "--metrics ndcg@7 is not a metric",
        ),
        (
            ["MODEL", "--examples", "t.jsonl", "--mrr-candidates", "5", "--corpus-negatives"],
            2,
            "ranks the rows of --examples alone",
        ),
        (
            ["m=MODEL", "--examples", "t.jsonl", "--baseline", "m@8", "--dims", "4"],
            2,
            "pass one of m@4",
        ),
        (["MODEL", "--examples", "t.jsonl", "--html", "sub"], 2, "--html sub is a folder"),
        (
            ["MODEL", "--examples", "t.jsonl", "--training", "nowhere.jsonl"],
            1,
            "nowhere.jsonl does not exist",
        ),
        (["--fetch", "MODEL", "--examples", "t.jsonl"], 2, "nothing to fetch"),
    ],
)
def test_wrong_calls_are_refused_with_what_to_do(
    argv, rc, message, model, evaluate, examples, write
):
    Path("sub").mkdir()
    for path in ("t.jsonl", "sub/t.jsonl"):
        write(path, examples)
    Path("t.csv").write_text("a,b,1\nc,d,2\n")
    Path("empty.jsonl").touch()
    ran = evaluate(*[word.replace("MODEL", model) for word in argv])
    assert ran.rc == rc, ran.err
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert "fix:" in ran.err


def test_training_data_that_are_missing_are_told_before_the_work(model, evaluate, examples, write):
    ran = evaluate(model, "--examples", write("t.jsonl", examples), "--training", "nowhere.jsonl")
    assert ran.rc == 1
    assert "loading" not in ran.err


def test_a_metric_that_no_task_has_is_told(model, evaluate, examples, write):
    command = [model, "--examples", write("t.jsonl", examples), "--results", "r"]
    assert (
        "no task here has the metric acuracy; there are accuracy, hit_rate_at_1, "
        in evaluate(*command, "--metrics", "acuracy,ndcg_at_10").err
    )
    Path("s.csv").write_text("a,b,1\nc,d,2\n")
    assert "no task here" not in evaluate(model, "--sts", "s.csv").err


@pytest.mark.slow
def test_results_of_two_runs_in_real_processes_are_the_same_bytes(
    model, run, examples, write, tmp_path
):
    path = write(tmp_path / "t.jsonl", examples)
    outputs = []
    for seed in ("0", "1"):
        ran = run(
            ["mteb-eval", model, "--examples", path, "-o", f"{seed}.parquet"],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed},
        )
        assert ran.rc == 0, ran.err
        assert "Warning" not in ran.err
        outputs.append((tmp_path / f"{seed}.parquet").read_bytes())
    assert outputs[0] == outputs[1]
