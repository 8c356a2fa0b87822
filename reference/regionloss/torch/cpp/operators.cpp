/* The operators of the path `compiled`: their kernels and their derivative, so that no Python runs between the call of
   the operator and the gradient. operators.py compiles this after a declaration of Settings that it generates. The
   schemas, the fake kernels and every error message are in Python. RegionLoss has checked the shapes. */

#include <cmath>
#include <optional>
#include <tuple>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "backward.h"
#include "forward.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<Tensor>;
using Numbers = at::ArrayRef<double>;
using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>; /* `Forward` in ops.py, flat */

using Forward = ForwardResult(const Tensor &, const Tensor &, const OptionalTensor &, const OptionalTensor &,
                              c10::SymInt, Numbers, Numbers, bool);
using Backward = Tensor(const Tensor &, const Tensor &, const Tensor &, const Tensor &, const Tensor &, at::TensorList,
                        Numbers, Numbers);
using Check = void(const Tensor &, const Tensor &, const OptionalTensor &, const OptionalTensor &, Numbers, Numbers,
                   bool);

template <class Signature>
c10::TypedOperatorHandle<Signature> find(const char *name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

Settings settings_of(Numbers numbers) {
    Settings settings;
    TORCH_CHECK_VALUE(numbers.size() * sizeof(double) == sizeof settings, "expected ", sizeof settings / sizeof(double),
                      " settings, got ", numbers.size());
    memcpy(&settings, numbers.data(), sizeof settings);
    return settings;
}

void check_memory(Status status) {
    TORCH_CHECK_WITH(OutOfMemoryError, status != NO_MEMORY,
                     "out of memory for the truths of an image and their assignment");
}

/* `planes` are the predictions or their gradient, `[N, A*(5+C), H, W]`. The caller keeps every tensor alive. */
template <typename Real>
Batch<Real> batch_of(const Tensor &planes, Numbers anchors, const Tensor &state, const Tensor &predictor_of_truth,
                     const Tensor &active, const Tensor &truth_grads) {
    Batch<Real> batch = {};
    batch.images = planes.size(0), batch.height = planes.size(2), batch.width = planes.size(3);
    batch.anchors = anchors.size() / 2, batch.classes = planes.size(1) / batch.anchors - 5;
    batch.length = predictor_of_truth.size(1), batch.threads = at::get_num_threads();
    batch.image_stride = planes.stride(0), batch.channel_stride = planes.stride(1);
    batch.row_stride = planes.stride(2), batch.column_stride = planes.stride(3);
    batch.sizes = anchors.data();
    batch.state = state.data_ptr<uint8_t>(), batch.predictor_of_truth = predictor_of_truth.data_ptr<int32_t>();
    batch.active = active.data_ptr<Real>(), batch.truth_grads = truth_grads.data_ptr<Real>();
    return batch;
}

template <typename Real>
Status forward_of(const Tensor &predictions, const Tensor &rows, const OptionalTensor &counts, bool early,
                  Numbers anchors, const Settings &settings, const ForwardResult &result) {
    const auto &[loss, terms, state, predictor_of_truth, active, truth_grads] = result;
    auto batch = batch_of<Real>(predictions, anchors, state, predictor_of_truth, active, truth_grads);
    batch.early = early;
    batch.predictions = predictions.data_ptr<Real>(), batch.rows = rows.data_ptr<double>();
    batch.counts = counts ? counts->data_ptr<int64_t>() : nullptr;
    batch.loss = loss.data_ptr<Real>(), batch.terms = terms.data_ptr<Real>();
    return pay(&batch, &settings);
}

ForwardResult forward(const Tensor &predictions, const Tensor &rows, const OptionalTensor &counts,
                      const OptionalTensor &images_seen, int64_t seen, Numbers anchors, Numbers numbers,
                      bool validate) {
    static const auto check = find<Check>("regionloss::compiled_check");
    Settings settings = settings_of(numbers);
    if (images_seen) seen = images_seen->item<int64_t>();
    if (validate || (images_seen && seen < 0))
        check.call(predictions, rows, counts, images_seen, anchors, numbers, validate);
    Tensor outputs = predictions.to(predictions.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    Tensor exact_rows = rows.to(at::kDouble).contiguous();
    OptionalTensor lengths = counts ? OptionalTensor(counts->to(at::kLong).contiguous()) : std::nullopt;
    int64_t images = outputs.size(0), height = outputs.size(2), width = outputs.size(3), length = rows.size(1);
    int64_t count = anchors.size() / 2;
    auto reals = outputs.options();
    ForwardResult result = {
        at::empty({}, reals),
        at::empty({5}, reals),
        at::empty({images, count, height, width}, reals.dtype(at::kByte)),
        at::empty({images, length}, reals.dtype(at::kInt)),
        at::empty({5, images, count, height, width}, reals),
        at::empty({images, length, outputs.size(1) / count}, reals),
    };
    auto run = outputs.scalar_type() == at::kDouble ? forward_of<double> : forward_of<float>;
    Status status = run(outputs, exact_rows, lengths, seen < settings.prior_until, anchors, settings, result);
    check_memory(status);
    if (status == BAD_TRUTH) {
        check.call(predictions, rows, counts, images_seen, anchors, numbers, false);
        TORCH_INTERNAL_ASSERT(false, "the kernel found a truth outside the domain, and the check in Python did not");
    }
    return result;
}

template <typename Real>
Status backward_of(const Tensor &gradient, double factor, const Tensor &state, const Tensor &predictor_of_truth,
                   const Tensor &active, const Tensor &truth_grads, Numbers anchors, const Settings &settings) {
    auto batch = batch_of<Real>(gradient, anchors, state, predictor_of_truth, active, truth_grads);
    batch.factor = factor;
    batch.gradient = gradient.data_ptr<Real>();
    return write_gradient(&batch, &settings);
}

Tensor backward(const Tensor &upstream, const Tensor &predictions, const Tensor &rows, const Tensor &state,
                const Tensor &predictor_of_truth, at::TensorList kept, Numbers anchors, Numbers numbers) {
    Settings settings = settings_of(numbers);
    Tensor active = kept[0].contiguous(), truth_grads = kept[1].contiguous();
    Tensor gradient = at::empty_like(predictions, predictions.options().dtype(active.scalar_type()));
    double factor = upstream.item<double>() / (settings.per_image ? std::max<int64_t>(gradient.size(0), 1) : 1);
    auto run = active.scalar_type() == at::kDouble ? backward_of<double> : backward_of<float>;
    check_memory(run(gradient, factor, state.contiguous(), predictor_of_truth.contiguous(), active, truth_grads,
                     anchors, settings));
    return gradient.to(predictions.scalar_type());
}

/* The loss is the only output that autograd knows, so that the others have no derivative. */
struct Loss : torch::autograd::Function<Loss> {
    static constexpr bool is_traceable = true; /* backward is one operator */

    static Tensor forward(AutogradContext *ctx, const Tensor &predictions, const Tensor &rows,
                          const ForwardResult &result, Numbers anchors, Numbers settings) {
        const auto &[loss, terms, state, predictor_of_truth, active, truth_grads] = result;
        ctx->save_for_backward({predictions, rows, state, predictor_of_truth, active, truth_grads});
        ctx->saved_data["anchors"] = anchors;
        ctx->saved_data["settings"] = settings;
        ctx->set_materialize_grads(false);
        return loss;
    }

    static variable_list backward(AutogradContext *ctx, const variable_list &upstream) {
        static const auto operation = find<Backward>("regionloss::compiled_backward");
        static const auto refuse = find<void()>("regionloss::compiled_refuse");
        if (at::GradMode::is_enabled()) refuse.call(); /* enabled in a backward with create_graph alone */
        variable_list gradients(5); /* one for each argument of forward */
        if (upstream[0].defined()) {
            variable_list saved = ctx->get_saved_variables();
            gradients[0] = operation.call(upstream[0], saved[0], saved[1], saved[2], saved[3], {saved[4], saved[5]},
                                          ctx->saved_data["anchors"].toDoubleVector(),
                                          ctx->saved_data["settings"].toDoubleVector());
        }
        return gradients;
    }
};

ForwardResult differentiate(const Tensor &predictions, const Tensor &rows, const OptionalTensor &counts,
                            const OptionalTensor &images_seen, c10::SymInt seen, Numbers anchors, Numbers settings,
                            bool validate) {
    static const auto operation = find<Forward>("regionloss::compiled");
    ForwardResult result;
    {
        at::AutoDispatchBelowADInplaceOrView below;
        result = operation.call(predictions, rows, counts, images_seen, seen, anchors, settings, validate);
    }
    if (at::GradMode::is_enabled() && predictions.requires_grad())
        std::get<0>(result) = Loss::apply(predictions, rows, result, anchors, settings);
    return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(regionloss, CPU, library) {
    library.impl("compiled", forward);
    library.impl("compiled_backward", backward);
}

TORCH_LIBRARY_IMPL(regionloss, Autograd, library) { library.impl("compiled", differentiate); }
