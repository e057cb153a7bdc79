//! Which Linux this is.

/// Of the running kernel, major and minor.
pub fn of_kernel() -> (u32, u32) {
    of(&rustix::system::uname().release().to_string_lossy())
}

/// Of a release as uname(2) tells it.
pub fn of(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
