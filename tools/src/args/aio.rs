//! How requests reach the host, as `-i` and `file.aio` name it.

/// Whether a mode asks for io_uring. The others, threads and native, are ways to do what plain
/// calls do here.
///
/// # Errors
/// An unknown mode, or io_uring in a build that lacks it.
pub fn wants_ring(mode: &str) -> Result<bool, String> {
    match mode {
        "threads" | "native" => Ok(false),
        "io_uring" if cfg!(feature = "io-uring") => Ok(true),
        "io_uring" => {
            Err("aio=io_uring needs a build of qimg-tools with the feature io-uring".into())
        }
        other => Err(format!("Invalid aio option: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_the_reference() {
        assert_eq!(wants_ring("threads"), Ok(false));
        assert_eq!(wants_ring("native"), Ok(false));
        assert_eq!(wants_ring("uring"), Err("Invalid aio option: uring".to_owned()));
        let words = "aio=io_uring needs a build of qimg-tools with the feature io-uring";
        let expected = if cfg!(feature = "io-uring") { Ok(true) } else { Err(words.to_owned()) };
        assert_eq!(wants_ring("io_uring"), expected);
    }
}
