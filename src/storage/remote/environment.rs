//! What this process and this machine say of themselves.

/// A variable of the environment; an empty one counts as none.
pub(super) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Whether this machine is one of this maker's cloud, so that its metadata can be asked.
pub(super) fn machine_of(maker: &str) -> bool {
    ["product_name", "sys_vendor", "bios_vendor"].iter().any(|file| {
        std::fs::read_to_string(format!("/sys/class/dmi/id/{file}"))
            .is_ok_and(|text| text.contains(maker))
    })
}
