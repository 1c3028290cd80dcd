#include "planner/model/tree/depth_first.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace berth {
namespace {

using testing::ElementsAre;

ModuleId add(ModelTree& tree, ModuleId parent) {
  const auto id = static_cast<ModuleId>(tree.modules.size());
  Module& module = tree.modules.emplace_back();
  module.parent = parent;
  if (parent != kNone) tree.modules[parent].children.push_back(id);
  return id;
}

void add_tensor(ModelTree& tree, ModuleId module) {
  tree.modules[module].tensors.push_back(static_cast<TensorId>(tree.tensors.size()));
  tree.tensors.emplace_back().module = module;
}

TEST(DepthFirst, IdsOfATreeBuiltDepthFirstArePositions) {
  ModelTree tree;
  const ModuleId root = add(tree, kNone);
  const ModuleId a = add(tree, root);
  const ModuleId a1 = add(tree, a);
  const ModuleId b = add(tree, root);
  for (const ModuleId module : {root, a, a1, a1, b}) add_tensor(tree, module);

  const DepthFirst walk(tree);
  EXPECT_TRUE(walk.by_id);
  EXPECT_THAT(walk.order, ElementsAre(root, a, a1, b));
  EXPECT_THAT(walk.leave, ElementsAre(4, 3, 3, 4));
  EXPECT_THAT(tensors_below(tree, walk, a), ElementsAre(1, 2, 3));
  EXPECT_THAT(tensors_below(tree, walk, root), ElementsAre(0, 1, 2, 3, 4));
}

TEST(DepthFirst, FollowsChildrenWhereIdsAreInAnotherOrder) {
  ModelTree tree;
  const ModuleId root = add(tree, kNone);
  const ModuleId a = add(tree, root);
  const ModuleId b = add(tree, root);
  const ModuleId a1 = add(tree, a);  // created after its parent's sibling
  for (const ModuleId module : {b, a1, a, root}) add_tensor(tree, module);

  const DepthFirst walk(tree);
  EXPECT_FALSE(walk.by_id);
  EXPECT_THAT(walk.order, ElementsAre(root, a, a1, b));
  EXPECT_THAT(walk.enter, ElementsAre(0, 1, 3, 2));
  EXPECT_THAT(walk.leave, ElementsAre(4, 3, 4, 3));
  EXPECT_THAT(tensors_below(tree, walk, a), ElementsAre(2, 1));
  EXPECT_THAT(tensors_below(tree, walk, root), ElementsAre(3, 2, 1, 0));
}

TEST(DepthFirst, TensorsThatDoNotStandByModuleAreGathered) {
  ModelTree tree;
  const ModuleId root = add(tree, kNone);
  const ModuleId a = add(tree, root);
  const ModuleId b = add(tree, root);
  for (const ModuleId module : {b, a}) add_tensor(tree, module);

  const DepthFirst walk(tree);
  EXPECT_FALSE(walk.by_id);
  EXPECT_THAT(tensors_below(tree, walk, root), ElementsAre(1, 0));
}

}  // namespace
}  // namespace berth
