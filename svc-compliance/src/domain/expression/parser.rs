//! From text to groups: words, then a tree, then an OR of ANDs in which no group implies another.

use super::{ExpressionError, Group, MAX_GROUPS, MAX_TEXT_CHARS, MAX_TOPICS};
use crate::domain::claim::TopicName;

/// How deep parentheses and NOTs may stand in each other.
const MAX_DEPTH: usize = 32;
/// Groups that may exist on the way: some vanish later because another one implies them.
const MAX_GROUPS_ON_THE_WAY: usize = 64;

const OPERAND: &str = "a topic, NOT or (";
const AFTER: &str = "AND, OR or the end";
const AFTER_INSIDE: &str = "AND, OR or )";

/// A topic that must be carried, or must not.
type Literal = (TopicName, bool);
/// An AND.
type Conjunction = Vec<Literal>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Topic(TopicName),
    And,
    Or,
    Not,
    Open,
    Close,
    End,
}

enum Node {
    Topic(TopicName),
    Not(Box<Self>),
    And(Vec<Self>, usize),
    Or(Vec<Self>, usize),
}

pub(super) fn parse(text: &str) -> Result<Vec<Group>, ExpressionError> {
    if text.trim().is_empty() {
        return Err(ExpressionError::Empty);
    }
    if text.chars().count() > MAX_TEXT_CHARS {
        return Err(ExpressionError::TooLong);
    }
    let mut words = Words { words: words(text)?, next: 0 };
    let tree = words.either(0)?;
    match words.take() {
        (Word::End, _) => {}
        (word, position) => return Err(unexpected(&word, position, AFTER)),
    }
    let conjunctions = groups_of(&tree, true)?;
    if conjunctions.is_empty() {
        return Err(ExpressionError::MetByNobody);
    }
    if conjunctions.len() > MAX_GROUPS {
        return Err(ExpressionError::TooManyGroups { position: tree.position() });
    }
    Ok(conjunctions.into_iter().map(group).collect())
}

fn group(conjunction: Conjunction) -> Group {
    let (all_of, none_of): (Vec<Literal>, Vec<Literal>) = conjunction.into_iter().partition(|(_, carried)| *carried);
    let topics = |literals: Vec<Literal>| literals.into_iter().map(|(topic, _)| topic).collect();
    Group { all_of: topics(all_of), none_of: topics(none_of) }
}

// === words ===

fn words(text: &str) -> Result<Vec<(Word, usize)>, ExpressionError> {
    let chars: Vec<char> = text.chars().collect();
    let (mut words, mut topics, mut at) = (Vec::new(), Vec::new(), 0);
    while at < chars.len() {
        let position = at + 1;
        match chars[at] {
            char if char.is_whitespace() => at += 1,
            '(' => {
                words.push((Word::Open, position));
                at += 1;
            }
            ')' => {
                words.push((Word::Close, position));
                at += 1;
            }
            _ => {
                let word: String =
                    chars[at..].iter().take_while(|char| !char.is_whitespace() && !"()".contains(**char)).collect();
                at += word.chars().count();
                let word = match word.as_str() {
                    "AND" => Word::And,
                    "OR" => Word::Or,
                    "NOT" => Word::Not,
                    "and" | "or" | "not" => {
                        return Err(ExpressionError::SmallOperator { position, word: word.to_uppercase() });
                    }
                    name => Word::Topic(TopicName::new(name).ok_or(ExpressionError::Topic { position })?),
                };
                if let Word::Topic(topic) = &word
                    && !topics.contains(topic)
                {
                    topics.push(topic.clone());
                    if topics.len() > MAX_TOPICS {
                        return Err(ExpressionError::TooManyTopics { position });
                    }
                }
                words.push((word, position));
            }
        }
    }
    words.push((Word::End, chars.len() + 1));
    Ok(words)
}

fn unexpected(word: &Word, position: usize, expected: &'static str) -> ExpressionError {
    let found = match word {
        Word::Topic(topic) => topic.as_str(),
        Word::And => "AND",
        Word::Or => "OR",
        Word::Not => "NOT",
        Word::Open => "(",
        Word::Close => ")",
        Word::End => "the end",
    };
    ExpressionError::Unexpected { position, found: found.to_owned(), expected }
}

// === tree ===

struct Words {
    words: Vec<(Word, usize)>,
    next: usize,
}

// === impl Words ===

impl Words {
    fn peek(&self) -> &Word {
        self.words.get(self.next).map_or(&Word::End, |(word, _)| word)
    }

    fn take(&mut self) -> (Word, usize) {
        let taken = self.words.get(self.next).or(self.words.last()).cloned().unwrap_or((Word::End, 1));
        self.next += 1;
        taken
    }

    fn position(&self) -> usize {
        self.words.get(self.next).map_or(1, |(_, position)| *position)
    }

    fn either(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        let position = self.position();
        let mut parts = vec![self.both(depth)?];
        while *self.peek() == Word::Or {
            self.take();
            parts.push(self.both(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::Or(parts, position) })
    }

    fn both(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        let position = self.position();
        let mut parts = vec![self.operand(depth)?];
        while *self.peek() == Word::And {
            self.take();
            parts.push(self.operand(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::And(parts, position) })
    }

    fn operand(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        let (word, position) = self.take();
        if depth == MAX_DEPTH && matches!(word, Word::Not | Word::Open) {
            return Err(ExpressionError::TooDeep { position });
        }
        match word {
            Word::Topic(topic) => Ok(Node::Topic(topic)),
            Word::Not => Ok(Node::Not(Box::new(self.operand(depth + 1)?))),
            Word::Open => {
                let inside = self.either(depth + 1)?;
                match self.take() {
                    (Word::Close, _) => Ok(inside),
                    (word, position) => Err(unexpected(&word, position, AFTER_INSIDE)),
                }
            }
            word => Err(unexpected(&word, position, OPERAND)),
        }
    }
}

// === impl Node ===

impl Node {
    fn position(&self) -> usize {
        match self {
            Self::And(_, position) | Self::Or(_, position) => *position,
            Self::Topic(_) | Self::Not(_) => 1,
        }
    }
}

// === groups ===

/// The groups of a node, or of its opposite: NOT moves inwards and turns AND into OR.
fn groups_of(node: &Node, meant: bool) -> Result<Vec<Conjunction>, ExpressionError> {
    match node {
        Node::Topic(topic) => Ok(vec![vec![(topic.clone(), meant)]]),
        Node::Not(inner) => groups_of(inner, !meant),
        Node::And(parts, position) | Node::Or(parts, position) => {
            let is_and = matches!(node, Node::And(..)) == meant;
            let mut groups = if is_and { vec![Vec::new()] } else { Vec::new() };
            for part in parts {
                let other = groups_of(part, meant)?;
                groups = if is_and { product(&groups, &other) } else { groups.into_iter().chain(other).collect() };
                groups = without_implied(groups);
                if groups.len() > MAX_GROUPS_ON_THE_WAY {
                    return Err(ExpressionError::TooManyGroups { position: *position });
                }
            }
            Ok(groups)
        }
    }
}

/// Every group of one list AND every group of the other, without those that contradict themselves.
fn product(left: &[Conjunction], right: &[Conjunction]) -> Vec<Conjunction> {
    let both = |(a, b): (&Conjunction, &Conjunction)| {
        let mut joined = a.clone();
        for literal in b {
            match joined.iter().find(|(topic, _)| *topic == literal.0) {
                Some((_, carried)) if *carried != literal.1 => return None,
                Some(_) => {}
                None => joined.push(literal.clone()),
            }
        }
        Some(joined)
    };
    left.iter().flat_map(|a| right.iter().map(move |b| (a, b))).filter_map(both).collect()
}

/// Leaves out a group whose demands include those of another one: who meets it meets that one.
fn without_implied(groups: Vec<Conjunction>) -> Vec<Conjunction> {
    let demands_less = |less: &Conjunction, more: &Conjunction| less.iter().all(|literal| more.contains(literal));
    let mut kept: Vec<Conjunction> = Vec::new();
    for group in groups {
        if kept.iter().any(|known| demands_less(known, &group)) {
            continue;
        }
        kept.retain(|known| !demands_less(&group, known));
        kept.push(group);
    }
    kept
}
