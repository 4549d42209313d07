//! Which call a method and a path name: the table of the annotations, read once from the descriptors.

use std::collections::{BTreeSet, HashMap};

use dalp_proto::{Exposure, HttpRule, Method, Methods, Verb};
use prost_reflect::{Kind, MethodDescriptor};

use super::template::{Bound, Path, Template};

/// The message that an accepted operation is.
const OPERATION: &str = "dalp.operation.v1.Operation";

/// How one RPC is called with HTTP.
#[derive(Clone, Debug)]
pub struct Route {
    /// The HTTP method.
    pub verb: Verb,
    /// The path as annotated.
    pub text: String,
    /// The path.
    pub template: Template,
    /// Whether the request message is the body; else it is the query.
    pub has_body: bool,
    /// The RPC.
    pub rpc: MethodDescriptor,
    /// What the contracts say about it.
    pub method: Method,
}

/// All routes.
#[derive(Clone, Debug)]
pub struct Table {
    by_shape: HashMap<(Verb, usize), Vec<Route>>,
    /// What is wrong with annotations; a shape test keeps it empty.
    problems: Vec<String>,
}

/// What a method and a path name.
#[derive(Debug)]
pub enum Found<'t> {
    /// A call.
    Route(&'t Route, Bound),
    /// Nothing under this method, but something under these.
    OtherVerbs(Vec<Verb>),
    /// Nothing.
    Nothing,
}

const VERBS: [Verb; 5] = [Verb::Get, Verb::Post, Verb::Put, Verb::Patch, Verb::Delete];

// === impl Route ===

impl Route {
    fn read(rule: &HttpRule, rpc: &MethodDescriptor, method: &Method) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{}: {}: {why}", method.path, rule.template));
        let template = match Template::parse(&rule.template) {
            Ok(template) => template,
            Err(error) => return refuse(&error.to_string()),
        };
        let has_body = match rule.body.as_str() {
            "*" => true,
            "" => false,
            _ => return refuse("a body is all of the message or none of it"),
        };
        if has_body == matches!(rule.verb, Verb::Get | Verb::Delete) {
            return refuse("GET and DELETE have no body, the others have one");
        }
        for name in template.variables() {
            let field = rpc.input().get_field_by_name(name);
            let fits = field.is_some_and(|field| {
                !field.is_list() && !field.is_map() && !matches!(field.kind(), Kind::Message(_) | Kind::Bytes)
            });
            if !fits {
                return refuse(&format!("{name} is no single scalar field of the request"));
            }
        }
        if rpc.is_client_streaming() && (!has_body || template.variables().next().is_some()) {
            return refuse("a stream of requests stands in the body alone");
        }
        let (text, template, rpc) = (rule.template.clone(), template, rpc.clone());
        Ok(Self { verb: rule.verb, text, template, has_body, rpc, method: method.clone() })
    }

    /// Whether its answer holds an operation that was accepted by it.
    #[must_use]
    pub fn accepts_an_operation(&self) -> bool {
        let field = self.rpc.output().get_field_by_name("operation");
        self.verb != Verb::Get
            && !self.rpc.is_server_streaming()
            && field.is_some_and(|field| matches!(field.kind(), Kind::Message(kind) if kind.full_name() == OPERATION))
    }
}

// === impl Table ===

impl Table {
    /// Reads the annotations of every RPC that the gateway routes.
    #[must_use]
    pub fn load() -> Self {
        let (pool, methods) = (dalp_proto::descriptors(), Methods::load());
        let (mut by_shape, mut problems) = (HashMap::<_, Vec<Route>>::new(), Vec::new());
        for method in methods.iter().filter(|method| method.exposure != Exposure::Mesh) {
            let name = method.path.rsplit('/').next().unwrap_or_default();
            let service = pool.get_service_by_name(&method.service);
            let Some(rpc) = service.and_then(|service| service.methods().find(|rpc| rpc.name() == name)) else {
                continue;
            };
            let rules = HttpRule::of(&rpc);
            if rules.is_empty() {
                problems.push(format!("{}: has no google.api.http annotation", method.path));
            }
            for rule in rules {
                match Route::read(&rule, &rpc, method) {
                    Err(problem) => problems.push(problem),
                    Ok(route) => {
                        let alike = by_shape.entry((route.verb, route.template.length())).or_default();
                        for other in alike.iter().filter(|other| other.template.overlaps(&route.template)) {
                            let (one, two) = (&other.method.path, &route.method.path);
                            problems.push(format!("{two}: {} also fits {one}", route.text));
                        }
                        alike.push(route);
                    }
                }
            }
        }
        // A verb at the end is looked for before a value that happens to end like one.
        by_shape.values_mut().for_each(|routes| routes.sort_by_key(|route| !route.template.has_verb()));
        Self { by_shape, problems }
    }

    /// What is wrong with the annotations of the contracts.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Every route, by path and method.
    #[must_use]
    pub fn iter(&self) -> Vec<&Route> {
        let mut routes: Vec<_> = self.by_shape.values().flatten().collect();
        routes.sort_by(|one, two| (&one.text, one.verb).cmp(&(&two.text, two.verb)));
        routes
    }

    /// What `verb` and `path` name.
    #[must_use]
    pub fn find(&self, verb: &http::Method, path: &str) -> Found<'_> {
        let Some(path) = Path::cut(path) else { return Found::Nothing };
        if let Some(verb) = VERBS.into_iter().find(|one| one.as_str() == verb.as_str())
            && let Some((route, bound)) = self.under(verb, &path)
        {
            return Found::Route(route, bound);
        }
        let others: BTreeSet<_> = VERBS.into_iter().filter(|verb| self.under(*verb, &path).is_some()).collect();
        match others.is_empty() {
            true => Found::Nothing,
            false => Found::OtherVerbs(others.into_iter().collect()),
        }
    }

    fn under(&self, verb: Verb, path: &Path<'_>) -> Option<(&Route, Bound)> {
        let routes = self.by_shape.get(&(verb, path.length()))?;
        routes.iter().find_map(|route| Some((route, route.template.matches(path)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_rpc_has_one_clear_route() {
        let table = Table::load();
        assert!(table.problems().is_empty(), "{}", table.problems().join("\n"));
        let public = Methods::load().iter().filter(|method| method.exposure != Exposure::Mesh).count();
        assert!(table.iter().len() >= public);
    }

    #[test]
    fn calls_are_found() {
        let table = Table::load();
        let found = |verb: &str, path: &str| match table.find(&verb.parse().unwrap(), path) {
            Found::Route(route, bound) => format!("{} {bound:?}", route.method.path),
            Found::OtherVerbs(verbs) => format!("{verbs:?}"),
            Found::Nothing => String::new(),
        };
        assert_eq!(
            found("POST", "/v1/assets/0x1:transfer"),
            "/dalp.asset.v1.AssetService/Transfer [(\"asset\", \"0x1\")]"
        );
        assert_eq!(found("GET", "/v1/operations"), "/dalp.operation.v1.OperationService/ListOperations []");
        assert_eq!(found("GET", "/v1/feeds:watch"), "/dalp.feeds.v1.FeedService/WatchFeeds []");
        assert_eq!(found("DELETE", "/v1/operations"), "[Get]");
        assert_eq!(found("TRACE", "/v1/operations"), "[Get]");
        assert_eq!(found("GET", "/v1/operations/"), "", "an empty value is none");
        assert_eq!(found("GET", "/V1/operations"), "");
    }

    #[test]
    fn accepted_operations_are_known() {
        let table = Table::load();
        let of = |path: &str| {
            table.iter().into_iter().find(|route| route.method.path == path).unwrap().accepts_an_operation()
        };
        assert!(of("/dalp.asset.v1.AssetService/Transfer"));
        assert!(!of("/dalp.operation.v1.OperationService/GetOperation"));
        assert!(!of("/dalp.asset.v1.AssetService/ListAssets"));
    }
}
