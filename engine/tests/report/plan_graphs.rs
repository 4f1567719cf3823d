//! Drawings of plans: read back by small parsers of what Graphviz and Mermaid take.

use crate::sample::{self, media_sync, plan_of, step};
use engine::{
    event::{Phase, StepId},
    plan::{Forecast, Plan, dot, mermaid},
    step::Description,
};
use std::collections::BTreeSet;

/// A word or a quoted text of DOT, quotes and escapes taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Mark(&'static str),
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                let mut quoted = String::new();
                loop {
                    match rest.next().expect("a text ends") {
                        '"' => break,
                        '\\' => match rest.next().expect("an escape ends") {
                            'n' => quoted.push('\n'),
                            escaped @ ('"' | '\\') => quoted.push(escaped),
                            other => panic!("`\\{other}` has a meaning of its own"),
                        },
                        '\n' => panic!("a line ends inside of a text"),
                        c => quoted.push(c),
                    }
                }
                found.push(Token::Text(quoted));
            }
            '-' if rest.next_if_eq(&'>').is_some() => found.push(Token::Mark("->")),
            '{' => found.push(Token::Mark("{")),
            '}' => found.push(Token::Mark("}")),
            '[' => found.push(Token::Mark("[")),
            ']' => found.push(Token::Mark("]")),
            '=' => found.push(Token::Mark("=")),
            ';' => found.push(Token::Mark(";")),
            ',' => found.push(Token::Mark(",")),
            c if c.is_whitespace() => {}
            c => {
                let mut word = String::from(c);
                while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                assert!(word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "`{word}` is no word");
                found.push(Token::Word(word));
            }
        }
    }
    found
}

/// What a drawing holds.
#[derive(Debug, Default)]
struct Drawing {
    title: String,
    /// Names of clusters with their nodes.
    clusters: Vec<(String, Vec<String>)>,
    labels: Vec<(String, String)>,
    needs: BTreeSet<(String, String)>,
    reads: BTreeSet<(String, String)>,
    phases: usize,
}

fn read_dot(text: &str) -> Drawing {
    let mut drawing = Drawing::default();
    let all = tokens(text);
    let [Token::Word(kind), Token::Text(title), Token::Mark("{"), body @ .., Token::Mark("}")] =
        all.as_slice()
    else {
        panic!("it is no graph: {text}");
    };
    assert_eq!(kind, "digraph");
    drawing.title.clone_from(title);
    let mut depth = 0;
    let mut statement: Vec<Token> = Vec::new();
    for token in body {
        match token {
            Token::Mark("{") => {
                let [Token::Word(word), Token::Text(name)] = statement.as_slice() else {
                    panic!("{statement:?}")
                };
                assert_eq!((word.as_str(), depth), ("subgraph", 0));
                drawing.clusters.push((name.clone(), Vec::new()));
                statement.clear();
                depth += 1;
            }
            Token::Mark("}") => {
                assert!(statement.is_empty() && depth == 1);
                depth -= 1;
            }
            Token::Mark(";") => {
                read_statement(&statement, depth, &mut drawing);
                statement.clear();
            }
            other => statement.push(other.clone()),
        }
    }
    assert!(statement.is_empty() && depth == 0, "everything is closed");
    drawing
}

fn read_statement(statement: &[Token], depth: usize, drawing: &mut Drawing) {
    let attributes = |list: &[Token]| -> Vec<(String, String)> {
        list.split(|token| *token == Token::Mark(","))
            .map(|pair| match pair {
                [Token::Word(key), Token::Mark("="), Token::Word(value) | Token::Text(value)] => {
                    (key.clone(), value.clone())
                }
                other => panic!("no attribute: {other:?}"),
            })
            .collect()
    };
    match statement {
        [Token::Word(_), Token::Mark("="), Token::Word(_) | Token::Text(_)] => {}
        [Token::Word(word), Token::Mark("["), list @ .., Token::Mark("]")]
            if word == "node" || word == "edge" =>
        {
            attributes(list);
        }
        [Token::Word(node), Token::Mark("["), list @ .., Token::Mark("]")] => {
            assert_eq!(depth, 1, "each node stands in its phase");
            let list = attributes(list);
            let label = list.iter().find(|(key, _)| key == "label").expect("a label");
            drawing.labels.push((node.clone(), label.1.clone()));
            drawing.clusters.last_mut().expect("a cluster").1.push(node.clone());
        }
        [
            Token::Word(from),
            Token::Mark("->"),
            Token::Word(to),
            Token::Mark("["),
            list @ ..,
            Token::Mark("]"),
        ] => {
            let pair = (from.clone(), to.clone());
            match attributes(list).iter().find(|(key, _)| key == "style").map(|(_, style)| style.as_str()) {
                Some("solid") => drop(drawing.needs.insert(pair)),
                Some("dashed") => drop(drawing.reads.insert(pair)),
                Some("bold") => drawing.phases += 1,
                other => panic!("unknown style {other:?}"),
            }
        }
        other => panic!("no statement: {other:?}"),
    }
}

/// Text of a Mermaid label, its numbers made characters again.
fn unescaped(text: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('#') {
        let (number, after) = after.split_once(';').expect("a number ends");
        made.push_str(before);
        made.push(number.parse::<u32>().ok().and_then(char::from_u32).expect("a character"));
        rest = after;
    }
    made + rest
}

fn read_mermaid(text: &str) -> Drawing {
    let mut drawing = Drawing::default();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("---"));
    let title = lines.next().and_then(|line| line.strip_prefix("title: ")).expect("a title");
    drawing.title = serde_json::from_str(title).expect("a title in quotes");
    assert_eq!((lines.next(), lines.next()), (Some("---"), Some("flowchart LR")));
    let mut open = false;
    for line in lines.map(str::trim) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["subgraph", name] => {
                assert!(!std::mem::replace(&mut open, true));
                drawing.clusters.push((name.split('[').next().unwrap_or_default().to_owned(), Vec::new()));
            }
            ["end"] => assert!(std::mem::replace(&mut open, false)),
            [from, "-->", to] => drop(drawing.needs.insert(((*from).to_owned(), (*to).to_owned()))),
            [from, "-.->", to] => drop(drawing.reads.insert(((*from).to_owned(), (*to).to_owned()))),
            [_, "==>", _] => drawing.phases += 1,
            ["classDef" | "class", _, _] => {}
            _ => {
                assert!(open, "each node stands in its phase: {line}");
                let (node, label) = line.split_once('"').expect("a label in quotes");
                let (label, _) = label.rsplit_once('"').expect("a label in quotes");
                assert!(!label.contains('"') && !label.contains('`'), "{label}");
                let id: String = node.chars().take_while(char::is_ascii_alphanumeric).collect();
                drawing.labels.push((id.clone(), unescaped(&label.replace("<br/>", "\n"))));
                drawing.clusters.last_mut().expect("a subgraph").1.push(id);
            }
        }
    }
    drawing
}

/// Both drawings of a plan show each step in its phase, each need and each reference.
fn assert_drawn(plan: &Plan) {
    for (language, drawing) in [("dot", read_dot(&dot(plan))), ("mermaid", read_mermaid(&mermaid(plan)))] {
        let phases: Vec<Phase> = Phase::ALL
            .into_iter()
            .filter(|phase| plan.steps.iter().any(|step| step.phase == *phase))
            .collect();
        assert_eq!(drawing.phases, phases.len().saturating_sub(1), "{language}");
        for (phase, (name, nodes)) in phases.iter().zip(&drawing.clusters) {
            assert!(name.ends_with(phase.name()), "{language}: {name}");
            let expected: Vec<String> = (0..plan.steps.len())
                .filter(|i| plan.steps[*i].phase == *phase)
                .map(|i| format!("s{i}"))
                .collect();
            assert_eq!(*nodes, expected, "{language}");
        }
        let pairs = |of: &dyn Fn(usize) -> Vec<StepId>| -> BTreeSet<(String, String)> {
            let all = (0..plan.steps.len()).flat_map(|i| of(i).into_iter().map(move |from| (from.0, i)));
            all.map(|(from, to)| (format!("s{from}"), format!("s{to}"))).collect()
        };
        let reads = pairs(&|i| plan.steps[i].reads.clone());
        assert_eq!(drawing.reads, reads, "{language}");
        let needs = pairs(&|i| plan.steps[i].needs.clone());
        assert_eq!(drawing.needs, needs.difference(&reads).cloned().collect(), "{language}");
    }
}

#[test]
fn each_step_each_need_and_each_reference_is_drawn() {
    assert_drawn(&media_sync());
    assert_drawn(&plan_of(Vec::new()));
}

#[test]
fn marks_tell_what_changes_what_waits_and_what_cannot_be_undone() {
    let mut plan = media_sync();
    plan.steps[sample::MEDIA.0].description = Description::needs_written_undo("run touch /data/x");
    plan.steps[sample::DIGEST.0].forecast = Forecast::Skipped("`false` is false".into());
    for drawing in [read_dot(&dot(&plan)), read_mermaid(&mermaid(&plan))] {
        let label = |id: StepId| {
            let name = format!("s{}", id.0);
            drawing.labels.iter().find(|(node, _)| *node == name).expect("the node").1.clone()
        };
        assert!(label(sample::DAEMON).starts_with("? daemon\n"));
        assert!(label(sample::MEDIA).starts_with("+ media\n") && label(sample::MEDIA).contains("no undo"));
        assert!(
            label(sample::RECORD).starts_with("+ record\n") && !label(sample::RECORD).contains("no undo")
        );
        assert!(label(sample::TRANSFERRED).starts_with("~ transferred\n"));
        assert!(label(sample::DIGEST).starts_with(". digest\n") && label(sample::DIGEST).contains("skipped"));
    }
}

#[test]
fn hostile_names_are_text_and_nothing_else() {
    let evil = "x\"]; s0 -> s1 [label=\"\\N\\l \u{1b}[31m\u{202e} <script>alert(1)</script> `md` %% #35; & 媒体 end\n}";
    let mut plan = media_sync();
    plan.playbook = evil.into();
    for step in &mut plan.steps {
        step.id = format!("{}{evil}", step.base);
        step.description.title = "短".into();
        step.lock = Some(evil.into());
    }
    assert_drawn(&plan);
    let shown = engine::report::escape(evil);
    for drawing in [read_dot(&dot(&plan)), read_mermaid(&mermaid(&plan))] {
        assert_eq!(drawing.title, shown);
        assert!(!drawing.labels.is_empty());
        for (_, label) in &drawing.labels {
            assert!(label.contains('短') && !label.contains(['\u{1b}', '\u{202e}']), "{label}");
        }
    }
    let text = mermaid(&plan);
    assert!(!text.lines().skip(3).any(|line| line.contains("<script") || line.contains("%%")), "{text}");
}

#[test]
fn three_hundred_steps_are_drawn() {
    let steps = (0..300).map(|i| {
        let mut made = step(&format!("s{i}"), Phase::Prepare, "command", Description::reads("looks"), i + 1);
        made.needs = (i.saturating_sub(3)..i).map(StepId).collect();
        made.reads = made.needs.first().copied().into_iter().collect();
        made
    });
    assert_drawn(&plan_of(steps.collect()));
}
