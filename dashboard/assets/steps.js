/* The steps of the run, or of all runs that are laid over each other: every chart that is not zoomed shows all of them,
   so that one step is in one place down a column; and a newest value that is not of the newest step says of which it is.

   cockpit.steps.take(steps)   the first and the newest step, null while there is none
   cockpit.steps.put(layout)   have a chart that is about to be drawn show them
   cockpit.steps.renew(card)   have the chart of a card show them that was not drawn for long
   cockpit.steps.tell(cards)   say how old their newest values are */
(function () {
  "use strict";

  const BEHIND = 0.02; // of all steps, by which a chart or a value may lag before that shows
  const FEW = 20; // steps, the same of a value
  let steps = null;
  let grows = false;

  function take(found) {
    grows = Boolean(steps && found && found[1] > steps[1]);
    steps = found;
  }

  function put(layout) {
    if (steps && steps[0] < steps[1]) {
      layout.xaxis.autorangeoptions = { minallowed: steps[0], maxallowed: steps[1] };
    }
  }

  /* While a run grows, charts without news follow it by jumps: to draw them at every tick would cost too much. */
  function renew(chart) {
    const shown = chart.layout.xaxis.autorangeoptions;
    if (!steps || steps[0] === steps[1] || !chart.layout.xaxis.autorange) {
      return;
    }
    const lag = shown ? Math.max(steps[1] - shown.maxallowed, Math.abs(steps[0] - shown.minallowed)) : Infinity;
    if (lag > (grows ? BEHIND * (steps[1] - steps[0]) : 0)) {
      put(chart.layout);
      window.Plotly.relayout(chart, { "xaxis.autorange": true });
    }
  }

  function tell(cards) {
    for (const card of steps ? cards : []) {
      const age = card.querySelector(".age");
      const step = age ? Number(age.dataset.step) : 0;
      const late = steps[1] - step > Math.max(FEW, BEHIND * (steps[1] - steps[0]));
      const words = late ? "at step " + step.toLocaleString("en") : "";
      if (age && age.textContent !== words) {
        age.textContent = words;
      }
    }
  }

  window.cockpit = Object.assign(window.cockpit || {}, { steps: { take, put, renew, tell } });
})();
