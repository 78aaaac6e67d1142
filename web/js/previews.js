/**
 * A node that shows its progress keeps the last picture of it: the page prefers live previews to what a node shows in the end.
 * Here the last word is the node's, so that Train and Optimise Noise end with the curve.
 */
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const OURS = "SDImageReward";

app.registerExtension({
  name: "SDImageReward.Previews",
  setup() {
    api.addEventListener("executed", ({ detail }) => {
      if (!detail.output?.images?.length) return;
      const path = nodesOnTheWay(String(detail.display_node ?? detail.node));
      if (path.at(-1)?.node.type.startsWith(OURS)) path.forEach(({ key }) => dropPreviews(key));
      app.graph.setDirtyCanvas(true, true);
    });
  },
});

/** "5:3" is node 3 in the subgraph that node 5 shows: both, each with the page's key for its previews. */
function nodesOnTheWay(executionId) {
  const found = [];
  let graph = app.rootGraph ?? app.graph;
  for (const id of executionId.split(":")) {
    const node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
    if (!node) break;
    found.push({ node, key: graph.isRootGraph === false ? `${graph.id}:${id}` : id });
    graph = node.subgraph;
  }
  return found;
}

/** The canvas reads the app's table, Nodes 2.0 the one of the page's store. */
function dropPreviews(key) {
  const page = document.getElementById("vue-app")?.__vue_app__;
  const store = page?.config.globalProperties.$pinia?.state.value.nodeOutput;
  for (const table of [app.nodePreviewImages, store?.nodePreviewImages]) delete table?.[key];
}
