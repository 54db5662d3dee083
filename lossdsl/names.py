"""User's names in generated code: one table of words that mean something in a target, and the names of classes.

A name in the table gets an underscore (`lambda` becomes `lambda_`), in every target alike, so that a loss has the same
signature wherever it is compiled to. The map is injective: `lambda_` itself becomes `lambda__`.
"""

from __future__ import annotations

import keyword
import re


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Names of modules, and of everything that an emitted module defines or imports besides the user's own.
_TARGET = _words(
    """
    torch tl triton math np numpy Tensor nn annotations self cls ctx acc device reduction return_reports check_inputs
    update wrt options grad_output return_state
"""
)

# C and C++ keywords, and macros of the standard headers.
_C = _words(
    """
    alignas alignof and_eq asm auto bitand bitor bool case catch char char8_t char16_t char32_t class co_await co_return
    co_yield compl concept const const_cast consteval constexpr constinit decltype default delete do double dynamic_cast
    enum explicit export extern false float friend goto inline int long mutable namespace new noexcept not_eq nullptr
    operator or_eq private protected public register reinterpret_cast requires restrict short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true typedef typeid typename union unsigned
    using virtual void volatile wchar_t xor xor_eq main std NULL EOF I errno assert stdin stdout stderr INFINITY NAN
    HUGE_VAL M_E M_PI M_PI_2 M_PI_4 M_1_PI M_2_PI M_SQRT2 M_SQRT1_2 M_LN2 M_LN10 M_LOG2E M_LOG10E FLT_MAX FLT_MIN
    FLT_EPSILON DBL_MAX DBL_MIN DBL_EPSILON INT_MAX INT_MIN UINT_MAX LONG_MAX LONG_MIN CHAR_BIT SIZE_MAX RAND_MAX
    int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t ptrdiff_t complex imaginary linux unix
"""
)

# Builtins that emitted code uses (not all builtins: `input`, `id` and `hash` are good names in a loss).
_BUILTINS = _words(
    """
    abs all any bool dict enumerate float int isinstance len list map max min next object property range repr reversed
    round set slice sorted staticmethod classmethod str sum super tuple type zip complex print IndexError TypeError
    ValueError RuntimeError KeyError Exception getattr hasattr setattr iter
"""
)

RESERVED = frozenset([*keyword.kwlist, *keyword.softkwlist, *_BUILTINS, *_TARGET, *_C])

# Attributes of torch.nn.Module that a parameter of the same name must not replace. Written down, because this module
# must not import torch; a test compares the list with torch's.
MODULE_ATTRIBUTES = frozenset(
    _words(
        """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward function get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict
    modules mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook report reports requires_grad_
    set_extra_state set_submodule share_memory source state_dict sum_and_weight sympy to to_empty train training type
    xpu zero_grad reduction check_inputs advance
    """
    )
)

ACRONYMS = frozenset(
    _words(
        """
    AUC BCE CE CPC CTC DPO DTW ELBO EMD GAE GAN GIOU GRPO IOU IPO JSD KL KTO L1 L2 LSGAN MAE MAPE ML MMD MSE MSLE NCE
    NLL NT ORPO PPO RMSE RNNT SSIM SVM TV TVD VAE VIC WGAN
    """
    )
)

_SPELLED = {"INFONCE": "InfoNCE", "GIOU": "GIoU", "IOU": "IoU", "SIMCLR": "SimCLR", "SIMPO": "SimPO"}


_HELPER = re.compile("(?:under)*_")


def mangle(name: str) -> str:
    """The name in generated code. Injective, and never a word of the table."""
    stem = name.rstrip("_")
    if _HELPER.match(name):  # names with a leading underscore are the module's own helpers
        return "under" + name
    return name + "_" if stem in RESERVED else name


def attribute(name: str) -> str:
    """The attribute of the module class that holds the parameter `name`."""
    mangled = mangle(name)
    return mangled + "_" if mangled.rstrip("_") in MODULE_ATTRIBUTES else mangled


def function_name(loss: str) -> str:
    """The function of a loss in the emitted module."""
    return mangle(loss)


def class_name(loss: str) -> str:
    """The class of a loss in the emitted module: words capitalised, known acronyms in capitals (info_nce: InfoNCE)."""
    words = [word for word in loss.split("_") if word]
    name = "".join(_word(word) for word in words) or "Loss"
    if name[0].isdigit():
        name = "Loss" + name
    if mangle(name) == function_name(loss):
        name += "Loss"
    return mangle(name)


def _word(word: str) -> str:
    upper = word.upper()
    if upper in _SPELLED:
        return _SPELLED[upper]
    if upper in ACRONYMS:
        return upper
    return word[0].upper() + word[1:]
