//! What the gateway can be asked, read from the contracts in the binary.

use dalp_proto::{Exposure, IdempotencyClass, Methods};
use heck::ToKebabCase as _;
use prost_reflect::{DescriptorPool, FileDescriptor, MethodDescriptor};

/// The RPCs of one service.
pub(crate) struct Area {
    /// As it is typed: `asset` for `AssetService`.
    pub(crate) name: String,
    /// What the contract says about the service.
    pub(crate) about: String,
    /// In the contract's order.
    pub(crate) rpcs: Vec<Rpc>,
}

/// One RPC.
pub(crate) struct Rpc {
    /// As it is typed: `create-asset` for `CreateAsset`.
    pub(crate) name: String,
    /// What the contract says about it.
    pub(crate) about: String,
    /// Messages and streams.
    pub(crate) descriptor: MethodDescriptor,
    /// Permission that a caller needs.
    pub(crate) permission: String,
    /// What a repeat means.
    pub(crate) idempotency: IdempotencyClass,
}

// === impl Rpc ===

impl Rpc {
    /// Path on the wire.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.descriptor.parent_service().full_name(), self.descriptor.name())
    }

    /// Whether its answer has an operation that can be followed, and under which field.
    pub(crate) fn operation_field(&self) -> Option<prost_reflect::FieldDescriptor> {
        self.descriptor.output().fields().find(|field| {
            !field.is_list()
                && field.kind().as_message().is_some_and(|message| message.full_name() == "dalp.operation.v1.Operation")
        })
    }
}

/// Every service that the gateway routes, by name.
pub(crate) fn areas() -> Vec<Area> {
    let pool = DescriptorPool::decode(dalp_proto::FILE_DESCRIPTOR_SET)
        .expect("the descriptor set is compiled into the binary");
    let methods = Methods::load();
    let mut areas = Vec::new();
    for service in pool.services().filter(|service| service.full_name().starts_with("dalp.")) {
        let mut rpcs = Vec::new();
        for descriptor in service.methods() {
            let path = format!("/{}/{}", service.full_name(), descriptor.name());
            let Some(method) = methods.get(&path).filter(|method| method.exposure != Exposure::Mesh) else { continue };
            rpcs.push(Rpc {
                name: descriptor.name().to_kebab_case(),
                about: comment(&descriptor.parent_file(), descriptor.path()),
                permission: method.permission.clone(),
                idempotency: method.idempotency,
                descriptor,
            });
        }
        if !rpcs.is_empty() {
            let name = service.name().strip_suffix("Service").unwrap_or(service.name()).to_kebab_case();
            areas.push(Area { name, about: comment(&service.parent_file(), service.path()), rpcs });
        }
    }
    areas.sort_by(|one, other| one.name.cmp(&other.name));
    areas
}

/// The comment that stands before something in a contract, as running text.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let described = file.file_descriptor_proto().source_code_info.as_ref();
    let location = described.and_then(|info| info.location.iter().find(|location| location.path == path));
    let lines = location.map(|location| location.leading_comments().to_owned()).unwrap_or_default();
    lines.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_routed_rpc_is_a_command_with_a_description() {
        let areas = areas();
        let routed = Methods::load().iter().filter(|method| method.exposure != Exposure::Mesh).count();
        assert_eq!(areas.iter().map(|area| area.rpcs.len()).sum::<usize>(), routed);
        for area in &areas {
            assert!(!area.about.is_empty(), "{} has no description", area.name);
            for rpc in &area.rpcs {
                assert!(!rpc.about.is_empty(), "{} {} has no description", area.name, rpc.name);
            }
        }
    }

    #[test]
    fn what_only_the_mesh_may_ask_is_no_command() {
        assert!(areas().iter().all(|area| area.name != "signer"));
    }

    #[test]
    fn answers_with_an_operation_can_be_followed() {
        let areas = areas();
        let get = areas.iter().flat_map(|area| &area.rpcs).find(|rpc| rpc.name == "get-operation");
        assert!(get.is_some_and(|rpc| rpc.operation_field().is_some()));
        let list = areas.iter().flat_map(|area| &area.rpcs).find(|rpc| rpc.name == "list-operations");
        assert!(list.is_some_and(|rpc| rpc.operation_field().is_none()));
    }
}
