//! The options of the admin listener, checked: whoever can reach it can end the node, so on an address that others reach
//! it needs a key.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    checks::Refused,
    options::{AdminListen, AdminOptions, Names},
};
use crate::{
    bounded_file,
    limits::{ADMIN_HOSTS_MAX, ADMIN_KEY_BYTES},
    settings::{AdminKey, AdminSettings, Settings},
};

/// What the listener is to be; `None` if there is to be none.
pub(super) fn checked(options: AdminOptions) -> Result<Option<AdminSettings>, Refused> {
    let AdminOptions { admin_listen, admin_key_file, admin_host } = options;
    // What is wrong is told although the listener is off: it was meant to be right.
    let hosts = hosts(&admin_host.unwrap_or_default())?;
    let key_file = admin_key_file.filter(|file| !file.is_empty()).map(PathBuf::from);
    let key = key_file.as_deref().map(read_key).transpose()?;
    let listen = match admin_listen {
        Some(AdminListen::Off) => return Ok(None),
        Some(AdminListen::At(address)) => address,
        None => AdminSettings::LISTEN,
    };
    Ok(Some(AdminSettings { listen, required: admin_listen.is_some(), hosts, key, key_file }))
}

/// Refuses a listener that others can reach and that asks nobody for a key.
pub(super) fn check_open(settings: &Settings) -> Result<(), Refused> {
    let Some(admin) = settings.admin.as_ref().filter(|_| settings.admin_is_open()) else { return Ok(()) };
    let allowed = "on an address that is not loopback it needs a key: put one into a file (openssl rand -hex 32 > \
                   admin.key) and name that with --admin-key-file, or configure an API key with the scope admin";
    Err(Refused::new("admin_listen", admin.listen, allowed))
}

fn hosts(names: &Names) -> Result<Arc<[String]>, Refused> {
    let refused = |allowed: &str| Refused::new("admin_host", names, allowed);
    if names.0.len() > ADMIN_HOSTS_MAX {
        return Err(refused(&format!("at most {ADMIN_HOSTS_MAX} names are allowed")));
    }
    let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || b"-._".contains(&letter);
    let checked = |name: &String| {
        let is_name = (1..=253).contains(&name.len()) && name.bytes().all(is_allowed);
        is_name.then(|| name.to_ascii_lowercase())
    };
    let hosts: Option<Arc<[String]>> = names.0.iter().map(checked).collect();
    hosts.ok_or_else(|| refused("names such as fanfare.internal are allowed, without a port"))
}

fn read_key(file: &Path) -> Result<AdminKey, Refused> {
    let refused = |allowed: String| Refused::secret("admin_key_file", &file.to_string_lossy(), allowed);
    let (least, most) = ADMIN_KEY_BYTES;
    let allowed =
        format!("the file holds one key of {least} to {most} visible ASCII characters, and nothing else");
    let text = bounded_file::read_text(file, 2 * most)
        .map_err(|error| refused(format!("the file cannot be read: {error}; {allowed}")))?;
    AdminKey::parse(&text).ok_or_else(|| refused(allowed))
}
