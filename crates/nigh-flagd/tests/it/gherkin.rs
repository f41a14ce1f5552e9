//! Runs flagd's testbed: reads its feature files and asks a backend what its scenarios ask.
//!
//! Trap: table cells keep `\u0041` as it is, as the official runners do; only `\|`, `\\` and `\n` mean something.

use std::path::Path;

use serde_json::{Map, Value};

/// One scenario, or one row of an outline.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) table: Vec<Vec<String>>,
}

/// What a scenario asks.
#[derive(Debug, Default)]
pub(crate) struct Question {
    /// Boolean, String, Integer, Float or Object.
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) default: String,
    pub(crate) context: Map<String, Value>,
    pub(crate) selector: String,
}

/// What is answered; no value stands for the default in the code.
#[derive(Debug, Default)]
pub(crate) struct Details {
    pub(crate) value: Option<Value>,
    pub(crate) reason: String,
    pub(crate) variant: String,
    pub(crate) error_code: String,
    pub(crate) metadata: Map<String, Value>,
}

pub(crate) trait Backend {
    fn evaluate(&mut self, question: &Question) -> Details;
}

fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut characters = line.trim().trim_start_matches('|').chars().peekable();
    while let Some(character) = characters.next() {
        let last = cells.len() - 1;
        match (character, characters.peek()) {
            ('\\', Some('|' | '\\')) => cells[last].extend(characters.next()),
            ('\\', Some('n')) => {
                characters.next();
                cells[last].push('\n');
            }
            ('|', _) => cells.push(String::new()),
            _ => cells[last].push(character),
        }
    }
    cells.pop();
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

#[derive(Default)]
struct Outline {
    name: String,
    tags: Vec<String>,
    steps: Vec<Step>,
    examples: Vec<(Vec<String>, Vec<Vec<String>>)>,
    is_outline: bool,
}

impl Outline {
    fn cases(&self, feature: &str, tags: &[String], background: &[Step]) -> Vec<Case> {
        let all = |more: &[String]| [tags, &self.tags, more].concat();
        if !self.is_outline {
            return vec![Case {
                name: format!("{feature}: {}", self.name),
                tags: all(&[]),
                steps: [background, &self.steps].concat(),
            }];
        }
        let mut cases = Vec::new();
        for (tags, rows) in &self.examples {
            let Some((head, rows)) = rows.split_first() else {
                continue;
            };
            for row in rows {
                let fill = |text: &str| {
                    head.iter()
                        .zip(row)
                        .fold(text.to_owned(), |text, (name, cell)| {
                            text.replace(&format!("<{name}>"), cell)
                        })
                };
                let steps = background.iter().chain(&self.steps).map(|step| Step {
                    text: fill(&step.text),
                    table: step.table.clone(),
                });
                cases.push(Case {
                    name: format!("{feature}: {} {row:?}", self.name),
                    tags: all(tags),
                    steps: steps.collect(),
                });
            }
        }
        cases
    }
}

/// Every case of one feature file.
pub(crate) fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap();
    let (mut feature, mut feature_tags, mut background) = (String::new(), Vec::new(), Vec::new());
    let mut tags: Vec<String> = Vec::new();
    let mut outlines: Vec<Outline> = Vec::new();
    let (mut in_background, mut in_examples, mut in_text) = (false, false, false);
    for line in text.lines().map(str::trim) {
        let titled = |words: &[&str]| {
            let title = words.iter().find_map(|word| line.strip_prefix(word));
            title.map(|title| title.trim().to_owned())
        };
        if line.starts_with("\"\"\"") {
            in_text = !in_text;
            continue;
        }
        if in_text || line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('@') {
            tags.extend(line.split_whitespace().map(str::to_owned));
        } else if let Some(title) = titled(&["Feature:"]) {
            feature = title;
            feature_tags = std::mem::take(&mut tags);
        } else if titled(&["Background:"]).is_some() {
            in_background = true;
        } else if let Some(name) = titled(&["Scenario Outline:", "Scenario:"]) {
            (in_background, in_examples) = (false, false);
            outlines.push(Outline {
                name,
                tags: std::mem::take(&mut tags),
                is_outline: line.starts_with("Scenario Outline:"),
                ..Outline::default()
            });
        } else if titled(&["Examples:", "Scenarios:"]).is_some() {
            in_examples = true;
            let outline = outlines.last_mut().unwrap();
            outline
                .examples
                .push((std::mem::take(&mut tags), Vec::new()));
        } else if line.starts_with('|') && in_examples {
            let outline = outlines.last_mut().unwrap();
            outline.examples.last_mut().unwrap().1.push(cells(line));
        } else if let Some(text) = titled(&["Given ", "When ", "Then ", "And ", "But "]) {
            let step = Step {
                text,
                table: Vec::new(),
            };
            if in_background {
                background.push(step);
            } else {
                outlines.last_mut().unwrap().steps.push(step);
            }
        } else if line.starts_with('|') {
            let steps = match in_background {
                true => &mut background,
                false => &mut outlines.last_mut().unwrap().steps,
            };
            steps.last_mut().unwrap().table.push(cells(line));
        }
    }
    let outlines = outlines.iter();
    outlines
        .flat_map(|outline| outline.cases(&feature, &feature_tags, &background))
        .collect()
}

/// What stands between quotation marks in a step; the last may hold quotation marks of its own.
pub(crate) fn arguments(text: &str, count: usize) -> Vec<String> {
    let mut rest = text;
    let mut found = Vec::new();
    while found.len() < count {
        let Some((_, after)) = rest.split_once('"') else {
            break;
        };
        let end = if found.len() + 1 == count {
            after.rfind('"')
        } else {
            after.find('"')
        };
        let Some(end) = end else { break };
        found.push(after[..end].to_owned());
        rest = &after[end + 1..];
    }
    found
}

pub(crate) fn typed(kind: &str, text: &str) -> Value {
    let text = text.trim();
    match kind {
        "Boolean" => Value::from(text == "true"),
        "Integer" => text.parse::<i64>().map_or(Value::Null, Value::from),
        "Float" => text.parse::<f64>().map_or(Value::Null, Value::from),
        "Object" => serde_json::from_str(&text.replace("\\\"", "\"")).unwrap_or(Value::Null),
        _ => Value::from(text),
    }
}

/// 1 and 1.0 are the same number.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// Whether `metadata` has what the rows of key, type and value say.
fn contains(metadata: &Map<String, Value>, rows: &[Vec<String>]) -> Result<(), String> {
    for row in rows {
        let expected = typed(&row[1], &row[2]);
        let actual = metadata.get(&row[0]);
        if !actual.is_some_and(|actual| same(actual, &expected)) {
            return Err(format!("metadata {} is {actual:?}, not {expected}", row[0]));
        }
    }
    Ok(())
}

/// Runs one case; says what is wrong, or that a step is not one of evaluation.
pub(crate) fn run(case: &Case, backend: &mut dyn Backend) -> Result<(), String> {
    let mut question = Question::default();
    let mut details = Details::default();
    for step in &case.steps {
        let text = &step.text;
        let expect = |what: &str, actual: &str| {
            let expected = arguments(text, 1).concat();
            match actual == expected {
                true => Ok(()),
                false => Err(format!("{what} is {actual:?}, not {expected:?}")),
            }
        };
        if let Some((kind, _)) = text.split_once("-flag with key ") {
            let [key, default] = &arguments(text, 2)[..] else {
                return Err(format!("no arguments: {text}"));
            };
            question.kind = kind.trim_start_matches("a ").to_owned();
            (question.key, question.default) = (key.clone(), default.clone());
        } else if text.starts_with("a context containing a key") {
            let [key, kind, value] = &arguments(text, 3)[..] else {
                return Err(format!("no arguments: {text}"));
            };
            question.context.insert(key.clone(), typed(kind, value));
        } else if text.starts_with("a context containing a targeting key") {
            let value = arguments(text, 1).concat();
            question.context.insert("targetingKey".into(), value.into());
        } else if text.starts_with("a context containing a nested property") {
            let [outer, inner, value] = &arguments(text, 3)[..] else {
                return Err(format!("no arguments: {text}"));
            };
            let nested = Map::from_iter([(inner.clone(), Value::from(value.as_str()))]);
            question.context.insert(outer.clone(), nested.into());
        } else if text == "the flag was evaluated with details" {
            details = backend.evaluate(&question);
        } else if text.starts_with("the resolved details value should be") {
            let expected = typed(&question.kind, &arguments(text, 1).concat());
            let actual = details.value.clone();
            let actual = actual.unwrap_or_else(|| typed(&question.kind, &question.default));
            if !same(&actual, &expected) {
                return Err(format!(
                    "the value is {actual}, not {expected}: {details:?}"
                ));
            }
        } else if text.starts_with("the reason should be") {
            expect("the reason", &details.reason)?;
        } else if text.starts_with("the variant should be") {
            expect("the variant", &details.variant)?;
        } else if text.starts_with("the error-code should be") {
            expect("the error code", &details.error_code)?;
        } else if text == "the resolved metadata is empty" {
            if !details.metadata.is_empty() {
                return Err(format!("there is metadata: {:?}", details.metadata));
            }
        } else if text == "the resolved metadata should contain" {
            contains(&details.metadata, &step.table[1..])?;
        } else if text.starts_with("an option \"selector\"") {
            question.selector = arguments(text, 3).pop().unwrap_or_default();
        } else if text == "a metadata flagd provider" {
            question.selector = "rawflags/selector-flag-combined-metadata.json".into();
        } else if !(text.starts_with("an option \"cache\"")
            || text == "an evaluator"
            || text == "a stable flagd provider")
        {
            return Err(format!("a step of another suite: {text}"));
        }
    }
    Ok(())
}

/// Whether `case` is one of evaluation, of the generation `view` of `fractional`, without a tag in `without`.
pub(crate) fn belongs(case: &Case, view: &str, without: &[&str]) -> bool {
    // These need a server that comes and goes, or a provider's own cache.
    let foreign = ["@grace", "@caching"];
    let other = |tag: &str| {
        let generation = tag.strip_prefix("@fractional-v");
        generation.is_some_and(|number| format!("v{number}") != view)
    };
    let foreign = |tag: &str| foreign.contains(&tag) || without.contains(&tag);
    !case.tags.iter().any(|tag| other(tag) || foreign(tag))
}
