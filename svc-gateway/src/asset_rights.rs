//! Rights that are held on single assets: such a call is let through when its message names one of them.
//!
//! Only for these calls the gateway reads the message before it passes it on, untouched. A message without an asset, a stream, or
//! one that does not read gives no right.

use std::sync::LazyLock;

use bytes::Bytes;
use dalp_proto::Method;
use dalp_service::{Reason, Refusal, errors::RefusalResult};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use tonic::body::Body;

/// The field by which a request names its asset.
const ASSET: &str = "asset";
/// One byte of flags and four of length stand before each message.
const HEADER_BYTES: usize = 5;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(dalp_proto::FILE_DESCRIPTOR_SET).expect("the descriptor set is compiled into the binary")
});

/// The request as it came, if its one message names one of `assets` (lower case).
pub(crate) async fn only_on(
    assets: &[String],
    method: &Method,
    request: Request<Body>,
) -> RefusalResult<Request<Body>> {
    let refused = || {
        Refusal::new(
            Reason::PermissionDenied,
            format!("the permission {} is held on other assets only", method.permission),
        )
        .meta("permission", &method.permission)
    };
    let descriptor = descriptor(method).filter(|descriptor| !descriptor.is_client_streaming()).ok_or_else(refused)?;
    if descriptor.input().get_field_by_name(ASSET).is_none() {
        return Err(refused());
    }
    let (parts, body) = request.into_parts();
    let bytes =
        body.collect().await.map_err(|status| Refusal::from_status(&status).unwrap_or_else(refused))?.to_bytes();
    let named = asset_of(&descriptor, &bytes).ok_or_else(refused)?;
    match assets.contains(&named) {
        true => Ok(Request::from_parts(parts, Body::new(Full::new(bytes)))),
        false => Err(refused().meta("asset", named)),
    }
}

fn descriptor(method: &Method) -> Option<MethodDescriptor> {
    let name = method.path.rsplit('/').next()?;
    POOL.get_service_by_name(&method.service)?.methods().find(|one| one.name() == name)
}

/// The asset that the only message of a body names, in lower case.
fn asset_of(descriptor: &MethodDescriptor, body: &Bytes) -> Option<String> {
    let (header, message) = body.split_at_checked(HEADER_BYTES)?;
    let length = u32::from_be_bytes(header[1..].try_into().ok()?) as usize;
    if header[0] != 0 || message.len() != length {
        return None;
    }
    let message = DynamicMessage::decode(descriptor.input(), message).ok()?;
    match message.get_field_by_name(ASSET)?.as_ref() {
        Value::String(asset) if !asset.is_empty() => Some(asset.to_ascii_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_proto::{Methods, asset::MintRequest};
    use prost::Message as _;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], length.as_slice(), message].concat()
    }

    async fn asked(path: &str, body: Vec<u8>) -> RefusalResult<Bytes> {
        let methods = Methods::load();
        let request = Request::new(Body::new(Full::new(Bytes::from(body))));
        let request = only_on(&["0xaa".to_owned()], methods.get(path).unwrap(), request).await?;
        Ok(request.into_body().collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn only_a_message_that_names_the_asset_passes_and_passes_untouched() {
        let mint = |asset: &str| MintRequest { asset: asset.to_owned(), ..MintRequest::default() }.encode_to_vec();
        let path = "/dalp.asset.v1.AssetService/Mint";
        let good = framed(&mint("0xAA"));
        assert_eq!(asked(path, good.clone()).await.unwrap(), good);
        // The last of two counts for whoever reads the message behind; so it does here.
        let twice = [mint("0xaa"), mint("0xbb")].concat();
        let compressed = [&[1_u8], &good[1..]].concat();
        let two = [good.clone(), good.clone()].concat();
        for wrong in
            [framed(&mint("0xbb")), framed(&mint("")), framed(&twice), framed(b"\xff"), compressed, two, vec![]]
        {
            let refusal = asked(path, wrong).await.unwrap_err();
            assert_eq!(refusal.reason(), Reason::PermissionDenied);
        }
        let without = asked("/dalp.asset.v1.AssetService/ListAssets", framed(&[])).await.unwrap_err();
        assert_eq!(without.reason(), Reason::PermissionDenied);
        let stream = asked("/dalp.distribution.v1.AirdropService/CreateAirdrop", good).await.unwrap_err();
        assert_eq!(stream.reason(), Reason::PermissionDenied);
    }
}
