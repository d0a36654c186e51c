//! Per format: real files in, our files out to the real libraries, refusals, damage.

mod npy;
mod safetensors;
