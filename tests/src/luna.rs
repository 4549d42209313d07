//! A token that is moved behind a module with the manners of a Luna partition.

use std::path::Path;

use anyhow::{Context as _, ensure};
use dalp_devstack::stack::{Stack, quorum_module};
use dalp_quorum_module::device::{FOLDER_VARIABLE, WRAPPED_VARIABLE};

/// From now on the signer finds the same token behind the appliance of a folder. A request waits so many seconds for people.
///
/// # Errors
/// When the signer's configuration cannot be changed, or it does not serve again.
pub async fn put_behind_luna(stack: &mut Stack, device: &Path, window_s: u32) -> anyhow::Result<()> {
    let path = stack.folder().join("svc-signer.toml");
    let text = std::fs::read_to_string(&path)?;
    let softhsm = stack.settings().pkcs11_module.clone();
    let module = quorum_module()?;
    let text = text.replace(
        &format!("module = \"{}\"", softhsm.display()),
        &format!("module = \"{}\"\nquorum_retry_s = {window_s}", module.display()),
    );
    let text = text.replace(
        "environment = { SOFTHSM2_CONF",
        &format!(
            "environment = {{ {FOLDER_VARIABLE} = \"{}\", {WRAPPED_VARIABLE} = \"{}\", SOFTHSM2_CONF",
            device.display(),
            softhsm.display()
        ),
    );
    ensure!(text.contains(FOLDER_VARIABLE) && text.contains("quorum_retry_s"), "the signer has no plain token: {text}");
    std::fs::write(path, text)?;
    let signer = stack.service("svc-signer").context("the signer")?;
    tokio::task::block_in_place(|| signer.restart())?;
    stack.wait_until_serving().await
}
