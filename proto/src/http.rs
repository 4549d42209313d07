//! The `google.api.http` annotation of an RPC: how the same call is made with HTTP and JSON.

use prost_reflect::{DynamicMessage, MethodDescriptor, Value};

/// An HTTP method that a route answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads.
    Get,
    /// Creates, and every verb of our own.
    Post,
    /// Replaces.
    Put,
    /// Changes in part.
    Patch,
    /// Deletes.
    Delete,
}

/// One `google.api.http` rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// The HTTP method.
    pub verb: Verb,
    /// The path template, for instance `/v1/assets/{asset}:transfer`.
    pub template: String,
    /// What of the request message the body holds: `*` for all of it, empty for none.
    pub body: String,
}

// === impl Verb ===

impl Verb {
    /// Every verb with the field of `google.api.HttpRule` that names it.
    const FIELDS: &[(&str, Self)] = &[
        ("get", Self::Get),
        ("post", Self::Post),
        ("put", Self::Put),
        ("patch", Self::Patch),
        ("delete", Self::Delete),
    ];

    /// The method as it stands in a request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

// === impl HttpRule ===

impl HttpRule {
    /// The rules of an RPC: that of its annotation, then its additional bindings.
    #[must_use]
    pub fn of(method: &MethodDescriptor) -> Vec<Self> {
        let Some(extension) = method.parent_pool().get_extension_by_name("google.api.http") else { return Vec::new() };
        let options = method.options();
        if !options.has_extension(&extension) {
            return Vec::new();
        }
        match options.get_extension(&extension).into_owned() {
            Value::Message(rule) => {
                let more = rule.get_field_by_name("additional_bindings").map(|bindings| bindings.into_owned());
                let more = match more {
                    Some(Value::List(bindings)) => bindings,
                    _ => Vec::new(),
                };
                let more = more.iter().filter_map(Value::as_message).filter_map(Self::read);
                Self::read(&rule).into_iter().chain(more).collect()
            }
            _ => Vec::new(),
        }
    }

    fn read(rule: &DynamicMessage) -> Option<Self> {
        let (field, verb) = Verb::FIELDS.iter().find(|(field, _)| rule.has_field_by_name(field))?;
        Some(Self { verb: *verb, template: text(rule, field), body: text(rule, "body") })
    }
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(service: &str, method: &str) -> Vec<HttpRule> {
        let service = crate::descriptors().get_service_by_name(service).unwrap();
        HttpRule::of(&service.methods().find(|one| one.name() == method).unwrap())
    }

    #[test]
    fn rules_are_read_from_the_descriptors() {
        assert_eq!(
            rules("dalp.asset.v1.AssetService", "Transfer"),
            [HttpRule { verb: Verb::Post, template: "/v1/assets/{asset}:transfer".to_owned(), body: "*".to_owned() }]
        );
        let read = rules("dalp.operation.v1.OperationService", "GetOperation");
        assert_eq!((read[0].verb, read[0].body.as_str()), (Verb::Get, ""));
        assert_eq!(rules("dalp.signer.v1.SignerService", "Sign"), []);
    }
}
