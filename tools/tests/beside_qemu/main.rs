//! Our programs beside the real ones: the same command line on the same images, and every
//! difference in output or exit code is a failure, except where ours are meant to differ.

mod amend;
mod bases;
mod check;
mod compare;
mod convert;
mod convert_options;
mod create;
mod from_pipe;
mod gallery;
mod info;
mod io;
mod map;
mod measure;
mod names;
mod new_verbs;
mod no_space;
mod page_cache;
mod pair;
mod refusal;
mod resize;
mod to_pipe;
