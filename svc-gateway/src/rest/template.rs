//! Path templates of `google.api.http`: literals, variables of one segment, and a verb at the end.
//!
//! Of the annotation's grammar only what the contracts use is understood; a shape test holds every template against [`Template::parse`].

use percent_encoding::percent_decode_str;

/// A path template, for instance `/v1/assets/{asset}:transfer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Variable(String),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path template: {0}")]
pub struct TemplateError(&'static str);

/// What the variables of a template stand for in a path, decoded.
pub type Bound = Vec<(String, String)>;

/// A path, cut for matching.
#[derive(Clone, Debug)]
pub struct Path<'p> {
    segments: Vec<&'p str>,
}

// === impl Path ===

impl<'p> Path<'p> {
    /// Cuts a path at its slashes; `None` when it does not begin with one.
    #[must_use]
    pub fn cut(path: &'p str) -> Option<Self> {
        Some(Self { segments: path.strip_prefix('/')?.split('/').collect() })
    }

    /// How many segments it has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.segments.len()
    }
}

// === impl Template ===

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let rest = text.strip_prefix('/').ok_or(TemplateError("it begins with a slash"))?;
        let (path, verb) = match rest.rsplit_once(':') {
            Some((path, verb)) => (path, Some(verb)),
            None => (rest, None),
        };
        if verb.is_some_and(|verb| !is_word(verb)) {
            return Err(TemplateError("a verb is made of letters"));
        }
        let segments = path.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        let template = Self { segments, verb: verb.map(str::to_owned) };
        let names: std::collections::BTreeSet<_> = template.variables().collect();
        match names.len() == template.variables().count() {
            true => Ok(template),
            false => Err(TemplateError("a variable is named twice")),
        }
    }

    /// The fields that its variables fill.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Variable(field) => Some(field.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// How many segments it has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.segments.len()
    }

    /// Whether it ends with a verb.
    #[must_use]
    pub fn has_verb(&self) -> bool {
        self.verb.is_some()
    }

    /// What its variables stand for in `path`; `None` when the path is another one.
    ///
    /// Literals are compared as they are sent, so that one call has one path; only variables are decoded, each within its segment.
    #[must_use]
    pub fn matches(&self, path: &Path<'_>) -> Option<Bound> {
        let (&last, before) = path.segments.split_last()?;
        let last = match &self.verb {
            Some(verb) => last.strip_suffix(verb.as_str())?.strip_suffix(':')?,
            None => last,
        };
        if self.segments.len() != before.len() + 1 {
            return None;
        }
        let mut bound = Bound::new();
        for (segment, text) in self.segments.iter().zip(before.iter().copied().chain([last])) {
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::Literal(_) => return None,
                Segment::Variable(field) => {
                    let value = percent_decode_str(text).decode_utf8().ok().filter(|value| !value.is_empty())?;
                    bound.push((field.clone(), value.into_owned()));
                }
            }
        }
        Some(bound)
    }

    /// Whether some path fits both, so that they must not stand under one HTTP method.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.verb == other.verb
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Literal(one), Segment::Literal(two)) => one == two,
                _ => true,
            })
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        match text.strip_prefix('{') {
            Some(inner) => match inner.strip_suffix('}') {
                Some(field) if is_field(field) => Ok(Self::Variable(field.to_owned())),
                _ => Err(TemplateError("a variable is the name of a field in braces")),
            },
            None if is_word(text) => Ok(Self::Literal(text.to_owned())),
            None => Err(TemplateError("a segment is a word of letters and digits, or a variable")),
        }
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_field(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matched(template: &str, path: &str) -> Option<Bound> {
        Template::parse(template).unwrap().matches(&Path::cut(path)?)
    }

    fn bound(pairs: &[(&str, &str)]) -> Option<Bound> {
        Some(pairs.iter().map(|&(field, value)| (field.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn paths_bind_variables() {
        assert_eq!(matched("/v1/assets/{asset}:transfer", "/v1/assets/0xab:transfer"), bound(&[("asset", "0xab")]));
        assert_eq!(
            matched("/v1/lanes/{chain_id}/{sender}", "/v1/lanes/1/0x2"),
            bound(&[("chain_id", "1"), ("sender", "0x2")])
        );
        assert_eq!(matched("/v1/system", "/v1/system"), bound(&[]));
        assert_eq!(matched("/v1/a/{x}", "/v1/a/b%2Fc%3Ad"), bound(&[("x", "b/c:d")]));
        assert_eq!(
            matched("/v1/a/{x}", "/v1/a/b:c"),
            bound(&[("x", "b:c")]),
            "no verb of the template, so of the value"
        );
        assert_eq!(matched("/v1/a/{x}", "/v1/a/.."), bound(&[("x", "..")]), "a value, never a step up");
    }

    #[test]
    fn other_paths_do_not() {
        for path in [
            "/v1/assets/0xab",
            "/v1/assets/:transfer",
            "/v1/assets/0xab:transfers",
            "/v1/assets/0xab/:transfer",
            "/v1/assets/0xabtransfer",
            "/v1//assets/0xab:transfer",
            "v1/assets/0xab:transfer",
            "/v1/%61ssets/0xab:transfer",
            "/v1/assets/%ff:transfer",
            "",
            "/",
        ] {
            assert_eq!(matched("/v1/assets/{asset}:transfer", path), None, "{path}");
        }
    }

    #[test]
    fn templates_are_strict() {
        for text in [
            "",
            "v1",
            "/",
            "/v1/",
            "/v1/{a",
            "/v1/{}",
            "/v1/{a=*}",
            "/v1/{a.b}",
            "/v1/**",
            "/v1/a:",
            "/v1/{a}/{a}",
            "/v1/{A}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_found() {
        let overlap = |one: &str, two: &str| Template::parse(one).unwrap().overlaps(&Template::parse(two).unwrap());
        assert!(overlap("/v1/feeds/{feed}", "/v1/feeds/latest"));
        assert!(overlap("/v1/{a}/x", "/v1/y/{b}"));
        assert!(!overlap("/v1/feeds/{feed}", "/v1/feeds/{feed}:watch"));
        assert!(!overlap("/v1/feeds/{feed}", "/v1/feeds"));
    }

    proptest! {
        #[test]
        fn any_value_comes_back_as_it_was(value in "\\PC{1,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            prop_assert_eq!(matched("/v1/a/{x}:go", &format!("/v1/a/{encoded}:go")), bound(&[("x", &value)]));
        }

        #[test]
        fn no_path_panics(path in "[/:%a-f0-9{}.\\PC]{0,60}", template in "(/[a-z{}:]{0,6}){0,4}") {
            let template = Template::parse(&template).unwrap_or_else(|_| Template::parse("/v1/a/{x}:go").unwrap());
            if let Some(bound) = Path::cut(&path).and_then(|path| template.matches(&path)) {
                prop_assert_eq!(bound.len(), template.variables().count());
                prop_assert!(bound.iter().all(|(_, value)| !value.is_empty()));
            }
        }
    }
}
