//! From groups to text: what all groups ask for is written once.

use super::{Expression, Group};
use crate::domain::claim::TopicName;
use std::fmt;

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups();
        let [first, others @ ..] = groups else { return Ok(()) };
        let in_all = |pick: fn(&Group) -> &Vec<TopicName>| -> Vec<TopicName> {
            pick(first).iter().filter(|topic| others.iter().all(|group| pick(group).contains(topic))).cloned().collect()
        };
        let common = Group { all_of: in_all(|group| &group.all_of), none_of: in_all(|group| &group.none_of) };
        let rests: Vec<Group> = groups.iter().map(|group| without(group, &common)).collect();
        // A group that asks for nothing else leaves nothing to put into the parentheses.
        if others.is_empty() || is_empty(&common) || rests.iter().any(is_empty) {
            return f.write_str(&any_of(groups));
        }
        let carried = common.all_of.iter().map(|topic| topic.as_str().to_owned());
        let choice = std::iter::once(format!("({})", any_of(&rests)));
        let barred = common.none_of.iter().map(|topic| format!("NOT {}", topic.as_str()));
        f.write_str(&carried.chain(choice).chain(barred).collect::<Vec<_>>().join(" AND "))
    }
}

fn any_of(groups: &[Group]) -> String {
    let alone = groups.len() == 1;
    let texts = groups.iter().map(|group| match all_of(group) {
        text if alone || group.topics().count() == 1 => text,
        text => format!("({text})"),
    });
    texts.collect::<Vec<_>>().join(" OR ")
}

fn all_of(group: &Group) -> String {
    let carried = group.all_of.iter().map(|topic| topic.as_str().to_owned());
    let barred = group.none_of.iter().map(|topic| format!("NOT {}", topic.as_str()));
    carried.chain(barred).collect::<Vec<_>>().join(" AND ")
}

fn without(group: &Group, common: &Group) -> Group {
    let left = |topics: &[TopicName], common: &[TopicName]| -> Vec<TopicName> {
        topics.iter().filter(|topic| !common.contains(topic)).cloned().collect()
    };
    Group { all_of: left(&group.all_of, &common.all_of), none_of: left(&group.none_of, &common.none_of) }
}

fn is_empty(group: &Group) -> bool {
    group.topics().next().is_none()
}
