/** Rank, Filter and Pick Best read their prompt only where they score the images themselves: connected scores hide it. */
import { app } from "../../../scripts/app.js";

const NODES = ["SDImageRewardRank", "SDImageRewardFilter", "SDImageRewardPickBest"];

app.registerExtension({
  name: "SDImageReward.Prompts",
  beforeRegisterNodeDef(nodeType, { name }) {
    if (!NODES.includes(name)) return;
    for (const event of ["onConnectionsChange", "onAfterGraphConfigured"]) {
      const inherited = nodeType.prototype[event];
      nodeType.prototype[event] = function (...given) {
        const result = inherited?.apply(this, given);
        showPromptWhereRead(this);
        return result;
      };
    }
  },
});

/** A prompt that has a wire of its own stays, as its socket is drawn beside it. */
function showPromptWhereRead(node) {
  const prompt = node.widgets?.find(({ name }) => name === "prompt");
  const hidden = isConnected(node, "scores") && !isConnected(node, "prompt");
  if (!prompt || Boolean(prompt.hidden) === hidden) return;
  prompt.hidden = hidden;
  prompt.options.hidden = hidden;
  const place = node.widgets.indexOf(prompt);
  node.widgets.splice(place, 0, ...node.widgets.splice(place, 1)); // Nodes 2.0 of 1.49 looks again when the list changes
  const [width, height] = node.size;
  const needed = node.computeSize()[1];
  if (needed > height) node.setSize([width, needed]);
  app.graph.setDirtyCanvas(true, true);
}

function isConnected(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  return slot >= 0 && node.isInputConnected(slot);
}
