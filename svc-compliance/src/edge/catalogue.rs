//! The parameters of each kind of rule and the terms of each class, read from the comments of the wire: they are the reference, nothing says it a second time.

use dalp_proto::{FILE_DESCRIPTOR_SET, asset::TermField, compliance::ModuleParameter};
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet, field_descriptor_proto::Label};
use std::{collections::HashMap, sync::LazyLock};

const FILE_OF_RULES: &str = "dalp/asset/v1/rule.proto";
const FILE_OF_TERMS: &str = "dalp/asset/v1/terms.proto";
/// Tags of `FileDescriptorProto.message_type` and `DescriptorProto.field`, as paths of comments name them.
const MESSAGE_TAG: i32 = 4;
const FIELD_TAG: i32 = 2;

static WIRE: LazyLock<FileDescriptorSet> = LazyLock::new(|| {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set is what the build wrote")
});

/// The parameters below a field of `RuleBinding`, by path.
pub(super) fn parameters(field: &str) -> Vec<ModuleParameter> {
    below(FILE_OF_RULES, "RuleBinding", field)
}

/// The parameters below a field of `Feature`, by path.
pub(super) fn fields_of_feature(field: &str) -> Vec<ModuleParameter> {
    below(FILE_OF_TERMS, "Feature", field)
}

/// The terms below a field of `AssetTerms`, by path.
pub(super) fn fields_of_terms(field: &str) -> Vec<TermField> {
    let of_wire = |field: ModuleParameter| TermField {
        required: field.description.contains("Required."),
        path: field.path,
        description: field.description,
    };
    below(FILE_OF_TERMS, "AssetTerms", field).into_iter().map(of_wire).collect()
}

fn below(file: &str, top: &str, field: &str) -> Vec<ModuleParameter> {
    let Some(file) = WIRE.file.iter().find(|known| known.name() == file) else { return Vec::new() };
    let comments: HashMap<&[i32], &str> = file
        .source_code_info
        .iter()
        .flat_map(|info| &info.location)
        .map(|location| (location.path.as_slice(), location.leading_comments()))
        .collect();
    let mut found = Vec::new();
    if let Some((_, top)) = message(file, top)
        && let Some(rule) = top.field.iter().find(|known| known.name() == field)
    {
        collect(file, &comments, field, rule.type_name(), &mut found);
    }
    found
}

fn collect(
    file: &FileDescriptorProto,
    comments: &HashMap<&[i32], &str>,
    path: &str,
    type_name: &str,
    found: &mut Vec<ModuleParameter>,
) {
    let Some((index, message)) = message(file, type_name) else { return };
    for (at, field) in message.field.iter().enumerate() {
        let many = if field.label() == Label::Repeated { "[]" } else { "" };
        let path = format!("{path}.{}{many}", field.name());
        let place = [MESSAGE_TAG, tag(index), FIELD_TAG, tag(at)];
        let comment = comments.get(place.as_slice()).copied().unwrap_or_default();
        let mut description = comment.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(values) = values(file, field.type_name()) {
            description = format!("{description} One of {values}.");
        }
        found.push(ModuleParameter { path: path.clone(), description });
        collect(file, comments, &path, field.type_name(), found);
    }
}

/// A message by its name, which the descriptor writes with its package.
fn message<'f>(file: &'f FileDescriptorProto, type_name: &str) -> Option<(usize, &'f DescriptorProto)> {
    let name = type_name.rsplit('.').next().filter(|name| !name.is_empty())?;
    file.message_type.iter().enumerate().find(|(_, message)| message.name() == name)
}

fn values(file: &FileDescriptorProto, type_name: &str) -> Option<String> {
    let name = type_name.rsplit('.').next().filter(|name| !name.is_empty())?;
    let known = file.enum_type.iter().find(|known| known.name() == name)?;
    let named: Vec<_> = known.value.iter().filter(|value| value.number() != 0).map(|value| value.name()).collect();
    Some(named.join(", "))
}

fn tag(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{asset::AssetClass, rule::RuleKind};

    #[test]
    fn every_term_of_every_class_is_described() {
        for class in AssetClass::ALL {
            let fields = fields_of_terms(class.name());
            assert!(fields.iter().any(|field| field.required), "{class:?}");
            assert!(fields.iter().all(|field| field.description.len() > 3), "{fields:?}");
        }
        let bond = fields_of_terms("bond");
        assert_eq!((bond[0].path.as_str(), bond[0].required), ("bond.maturity_date", true));
        assert!(
            bond.iter()
                .any(|field| field.path == "bond.day_count" && field.description.contains("DAY_COUNT_THIRTY_360"))
        );
    }

    #[test]
    fn every_parameter_of_every_feature_is_described() {
        let paths = |field: &str| fields_of_feature(field).into_iter().map(|one| one.path).collect::<Vec<_>>();
        assert_eq!(paths("transaction_fee"), ["transaction_fee.bps", "transaction_fee.collector"]);
        assert!(paths("voting_power").is_empty());
        assert!(fields_of_feature("management_fee").iter().all(|field| field.description.len() > 3));
    }

    #[test]
    fn every_parameter_of_every_rule_is_described() {
        for kind in RuleKind::ALL {
            let parameters = parameters(kind.field());
            assert!(!parameters.is_empty(), "{kind:?}");
            for parameter in parameters {
                assert!(parameter.path.starts_with(kind.field()), "{parameter:?}");
                assert!(parameter.description.len() > 3, "{parameter:?}");
            }
        }
        let countries = parameters("country");
        assert_eq!(countries[1].path, "country.countries[]");
        assert!(countries[0].description.contains("One of COUNTRY_MODE_ALLOW, COUNTRY_MODE_BLOCK."));
        let nested: Vec<_> = parameters("issuance").into_iter().map(|parameter| parameter.path).collect();
        assert!(nested.contains(&"issuance.limits[].window.rolling.length_s".to_owned()), "{nested:?}");
    }
}
