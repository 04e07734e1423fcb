"""What a run's findings rest on: which layer shows the change, and what has been tested."""

import streamlit as st

from dashboard.components import charts, evidence_cards, layers, narrow, state, words
from mneme.harvest.layer_choice import ENOUGH
from mneme.store.queries import quality
from mneme.verdict.layer_sentences import layer_sentences

run = state.need_run("Evidence")
st.title("Evidence")
info = run.info()
layer = int(info["layer"]) if "layer" in info else None

st.subheader(
    "Which layer shows the change",
    help="Measured on a few texts before the run. Restored: the base is run on from the tuned model's activations "
    "after a layer; the share of KL(base || tuned) that this takes away is the share of the change that they hold. "
    "0 before the first changed layer, 1 after the last, unless norm or output head differ.",
)
profile = run.layer_profile()
if profile.empty:
    st.caption("Not measured: the run is of an earlier mneme, or its models are on a server. To measure it:")
    st.code(f"mneme evidence {run.path} --only layers", language=None, wrap_lines=True)
else:
    told = layer_sentences(profile, layer, words.plain(info.get("layer_why"), 300))
    st.markdown(words.markdown(" ".join(told), 900))
    one, two = narrow.stacking("layers").columns(2, gap="medium")
    with one:
        st.markdown("**Share of the difference of the predictions**")
        if profile["restored"].isna().all():
            st.caption("Not told: the predictions differ too little on these texts.")
        else:
            st.plotly_chart(
                layers.restored(profile, layer, ENOUGH),
                key="layer_restored",
                config=charts.STILL,
                alt="Share of KL restored by patching the stream after each layer",
            )
    with two:
        st.markdown("**How far apart the activations are**")
        st.plotly_chart(
            layers.difference(profile, layer),
            key="layer_difference",
            config=charts.STILL,
            alt="Relative difference of the two streams after each layer",
        )
    st.caption(
        f"{words.count(profile['n_tokens'].iloc[0])} tokens of {words.count(profile['n_documents'].iloc[0])} "
        f"documents, KL {profile['kl'].iloc[0]:.2g} nats a token. Filled markers are measured, open ones hold by "
        f"construction; diamonds: the layer's own weights differ; dashed: {ENOUGH:.0%}, from which on a layer is taken."
    )

st.subheader(
    "What has been tested",
    help="`mneme evidence RUN` tests what is not tested yet, part by part; stopped, it goes on where it was.",
)
if "attribution" not in quality.finished_stages(run):
    st.info("The run is not finished: nothing can be tested of it yet.", icon=":material/hourglass_empty:")
else:
    st.fragment(evidence_cards.cards, run_every=5 if evidence_cards.any_running(run) else None)(run)
