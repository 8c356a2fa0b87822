/* The operators of the path for the host: their kernels and their derivative, so that no Python runs between the call
   of the operator and the gradient. Compiled after the declaration of Settings, which operators.py writes; the schemas,
   what the operators answer to fake tensors and the words of every refusal are in Python. The module has checked the
   shapes. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <type_traits>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

enum { DONE = 0, NO_MEMORY = 1, BAD_TRUTH = 2 }; /* what the kernels answer: the worst of the images */

/* For what is called in loops over lanes: they are made of vectors only where nothing is called. */
#define AT_ONCE inline __attribute__((always_inline))

namespace of_float {
#define REAL float
#define SINGLE 1
#include "kernels.h"
#undef REAL
#undef SINGLE
}  // namespace of_float

namespace of_double {
#define REAL double
#define SINGLE 0
#include "kernels.h"
#undef REAL
#undef SINGLE
}  // namespace of_double

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Given = std::optional<Tensor>;
using Numbers = at::ArrayRef<double>;
using Found = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>; /* `Forward` in ops.py, flat */

using Forward = Found(const Tensor &, const Tensor &, const Given &, const Given &, c10::SymInt, Numbers, Numbers,
                      bool);
using Backward = Tensor(const Tensor &, const Tensor &, const Tensor &, const Tensor &, const Tensor &, at::TensorList,
                        Numbers, Numbers);
using Check = void(const Tensor &, const Tensor &, const Given &, const Given &, Numbers, Numbers, bool);

template <class Signature>
c10::TypedOperatorHandle<Signature> find(const char *name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

Settings settings_of(Numbers numbers) {
    Settings settings;
    TORCH_CHECK_VALUE(numbers.size() * sizeof(double) == sizeof settings, "expected ", sizeof settings / sizeof(double),
                      " settings, there are ", numbers.size());
    memcpy(&settings, numbers.data(), sizeof settings);
    return settings;
}

void check_memory(int answer) {
    TORCH_CHECK_WITH(OutOfMemoryError, answer != NO_MEMORY,
                     "there is no memory for the truths of an image and the predictors that answer for them");
}

template <class Call>
using Real = std::remove_pointer_t<decltype(Call::active)>;

/* `planes` are the predictions or their gradient, `[N, A*(5+C), H, W]`. Whoever calls holds all of it. */
template <class Call>
Call call_of(const Tensor &planes, Numbers anchors, const Tensor &state, const Tensor &owner, const Tensor &active,
             const Tensor &slopes) {
    Call call = {};
    call.images = planes.size(0), call.height = planes.size(2), call.width = planes.size(3);
    call.anchors = anchors.size() / 2, call.classes = planes.size(1) / call.anchors - 5;
    call.slots = owner.size(1), call.threads = at::get_num_threads();
    call.of_image = planes.stride(0), call.of_channel = planes.stride(1);
    call.of_row = planes.stride(2), call.of_column = planes.stride(3);
    call.sizes = anchors.data();
    call.state = state.data_ptr<uint8_t>(), call.owner = owner.data_ptr<int32_t>();
    call.active = active.data_ptr<Real<Call>>(), call.slopes = slopes.data_ptr<Real<Call>>();
    return call;
}

template <class Call>
int forward_of(const Tensor &predictions, const Tensor &rows, const Given &counts, bool early, Numbers anchors,
               const Settings &settings, const Found &found) {
    const auto &[loss, terms, state, owner, active, slopes] = found;
    Call call = call_of<Call>(predictions, anchors, state, owner, active, slopes);
    call.early = early;
    call.predictions = predictions.data_ptr<Real<Call>>(), call.rows = rows.data_ptr<double>();
    call.counts = counts ? counts->data_ptr<int64_t>() : nullptr;
    call.loss = loss.data_ptr<Real<Call>>(), call.terms = terms.data_ptr<Real<Call>>();
    return pay(&call, &settings);
}

Found forward(const Tensor &predictions, const Tensor &rows, const Given &counts, const Given &images_seen,
              int64_t seen, Numbers anchors, Numbers numbers, bool validate) {
    static const auto check = find<Check>("regionloss::compiled_check");
    Settings settings = settings_of(numbers);
    if (images_seen) seen = images_seen->item<int64_t>();
    if (validate || (images_seen && seen < 0))
        check.call(predictions, rows, counts, images_seen, anchors, numbers, validate);
    Tensor outputs = predictions.to(predictions.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    Tensor given = rows.to(at::kDouble).contiguous();
    Given lengths = counts ? Given(counts->to(at::kLong).contiguous()) : std::nullopt;
    int64_t images = outputs.size(0), height = outputs.size(2), width = outputs.size(3), slots = rows.size(1);
    int64_t count = anchors.size() / 2;
    auto reals = outputs.options();
    Found found = {
        at::empty({}, reals),
        at::empty({5}, reals),
        at::empty({images, count, height, width}, reals.dtype(at::kByte)),
        at::empty({images, slots}, reals.dtype(at::kInt)),
        at::empty({5, images, count, height, width}, reals),
        at::empty({images, slots, outputs.size(1) / count}, reals),
    };
    auto run = outputs.scalar_type() == at::kDouble ? forward_of<of_double::Call> : forward_of<of_float::Call>;
    int answer = run(outputs, given, lengths, seen < settings.prior_until, anchors, settings, found);
    check_memory(answer);
    if (answer == BAD_TRUTH) {
        check.call(predictions, rows, counts, images_seen, anchors, numbers, false);
        TORCH_INTERNAL_ASSERT(false, "a truth is outside the domain here, and in Python it is not");
    }
    return found;
}

template <class Call>
int backward_of(const Tensor &gradient, double factor, const Tensor &state, const Tensor &owner, const Tensor &active,
                const Tensor &slopes, Numbers anchors, const Settings &settings) {
    Call call = call_of<Call>(gradient, anchors, state, owner, active, slopes);
    call.factor = factor;
    call.gradient = gradient.data_ptr<Real<Call>>();
    return write_gradient(&call, &settings);
}

Tensor backward(const Tensor &upstream, const Tensor &predictions, const Tensor &rows, const Tensor &state,
                const Tensor &owner, at::TensorList kept, Numbers anchors, Numbers numbers) {
    Settings settings = settings_of(numbers);
    Tensor active = kept[0].contiguous(), slopes = kept[1].contiguous();
    Tensor gradient = at::empty_like(predictions, predictions.options().dtype(active.scalar_type()));
    double factor = upstream.item<double>() / (settings.per_image ? std::max<int64_t>(gradient.size(0), 1) : 1);
    auto run = active.scalar_type() == at::kDouble ? backward_of<of_double::Call> : backward_of<of_float::Call>;
    check_memory(run(gradient, factor, state.contiguous(), owner.contiguous(), active, slopes, anchors, settings));
    return gradient.to(predictions.scalar_type());
}

/* Of what was found the loss alone is an output that autograd knows, so that the rest has no derivative. */
struct Loss : torch::autograd::Function<Loss> {
    static constexpr bool is_traceable = true; /* backward is one operator */

    static Tensor forward(AutogradContext *ctx, const Tensor &predictions, const Tensor &rows, const Found &found,
                          Numbers anchors, Numbers settings) {
        const auto &[loss, terms, state, owner, active, slopes] = found;
        ctx->save_for_backward({predictions, rows, state, owner, active, slopes});
        ctx->saved_data["anchors"] = anchors;
        ctx->saved_data["settings"] = settings;
        ctx->set_materialize_grads(false);
        return loss;
    }

    static variable_list backward(AutogradContext *ctx, const variable_list &upstream) {
        static const auto operation = find<Backward>("regionloss::compiled_backward");
        static const auto refuse = find<void()>("regionloss::compiled_refuse");
        if (at::GradMode::is_enabled()) refuse.call(); /* which it is in a backward with create_graph alone */
        variable_list gradients(5); /* of each argument of forward */
        if (upstream[0].defined()) {
            variable_list saved = ctx->get_saved_variables();
            gradients[0] = operation.call(upstream[0], saved[0], saved[1], saved[2], saved[3], {saved[4], saved[5]},
                                          ctx->saved_data["anchors"].toDoubleVector(),
                                          ctx->saved_data["settings"].toDoubleVector());
        }
        return gradients;
    }
};

Found differentiate(const Tensor &predictions, const Tensor &rows, const Given &counts, const Given &images_seen,
                    c10::SymInt seen, Numbers anchors, Numbers settings, bool validate) {
    static const auto operation = find<Forward>("regionloss::compiled");
    Found found;
    {
        at::AutoDispatchBelowADInplaceOrView below;
        found = operation.call(predictions, rows, counts, images_seen, seen, anchors, settings, validate);
    }
    if (at::GradMode::is_enabled() && predictions.requires_grad())
        std::get<0>(found) = Loss::apply(predictions, rows, found, anchors, settings);
    return found;
}

}  // namespace

TORCH_LIBRARY_IMPL(regionloss, CPU, library) {
    library.impl("compiled", forward);
    library.impl("compiled_backward", backward);
}

TORCH_LIBRARY_IMPL(regionloss, Autograd, library) { library.impl("compiled", differentiate); }
