"""The class of the model for each category: by a rule that is named, or an error."""

from __future__ import annotations

import pytest

from edlab.data.label_map import LabelMap, map_categories, map_class_numbers
from edlab.errors import DataError

COCO_IDS = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
COCO = {number: f"category {number}" for number in COCO_IDS}
NAMES = [f"category {number}" for number in COCO_IDS]


def by_categories(categories: dict[int, str], count: int | None, names: tuple[str, ...] = ()) -> LabelMap:
    return map_categories(categories, count, names, "coco.json")


class TestCategories:
    def test_as_many_classes_as_categories_are_in_the_order_of_the_ids(self) -> None:
        mapped = by_categories(COCO, 80)
        assert (mapped.class_of[1], mapped.class_of[13], mapped.class_of[90]) == (0, 11, 79)
        assert mapped.class_names == tuple(NAMES)
        assert mapped.rule == "the 80 categories of coco.json, in the order of their ids, are the model's classes"

    def test_as_many_classes_as_the_highest_id_are_ids_less_one(self) -> None:
        mapped = by_categories(COCO, 90)
        assert (mapped.class_of[1], mapped.class_of[13], mapped.class_of[90]) == (0, 12, 89)
        assert (mapped.class_names[11], mapped.class_names[12], len(mapped.class_names)) == ("", "category 13", 90)
        assert "by id - 1" in mapped.rule

    def test_ids_that_count_from_0_are_the_classes(self) -> None:
        mapped = by_categories({0: "a", 2: "b", 9: "c"}, 10)
        assert mapped.class_of == {0: 0, 2: 2, 9: 9}
        assert "by id:" in mapped.rule

    @pytest.mark.parametrize("count", [81, 91])
    def test_a_background_class_is_not_counted(self, count: int) -> None:
        with pytest.raises(DataError, match=f"80 categories with ids from 1 to 90.*80 or 90.*has {count}") as caught:
            by_categories(COCO, count)
        assert "model.label_offset=1" in caught.value.hint

    @pytest.mark.parametrize("count", [1, 79, 82, 89, 92, 1000])
    def test_any_other_number_is_refused(self, count: int) -> None:
        with pytest.raises(DataError, match=f"80 or 90 classes fits, and this one has {count}") as caught:
            by_categories(COCO, count)
        assert "model.label_offset" in caught.value.hint

    def test_an_id_0_that_is_no_class_is_pointed_out(self) -> None:
        with pytest.raises(DataError) as caught:
            by_categories({0: "objects", 1: "cat", 2: "dog"}, 2)
        assert "if 'objects' is not a class of the model, remove the category with the id 0" in caught.value.hint

    def test_names_come_first_whatever_the_numbers_are(self) -> None:
        mapped = by_categories({1: "Dog", 2: "cat "}, 3, ("cat", "bird", "DOG"))
        assert mapped.class_of == {1: 2, 2: 0}
        assert mapped.class_names == ("cat ", "", "Dog")
        assert mapped.rule == "the 2 categories of coco.json are the model's 3 classes by name"
        assert by_categories({1: "dog"}, None, ("cat", "dog")).class_of == {1: 1}

    def test_a_name_that_the_model_does_not_have_is_refused(self) -> None:
        with pytest.raises(DataError, match=r"'owl' of coco\.json is not one of .* \(1 such categories\)") as caught:
            by_categories({1: "cat", 2: "owl"}, 2, ("cat", "dog"))
        assert "cat, dog" in caught.value.hint

    @pytest.mark.parametrize(
        ("categories", "names", "owner"),
        [
            ({1: "cat", 2: "Cat"}, ("cat", "dog"), "coco.json has several classes named 'cat'"),
            ({1: "cat", 2: "dog"}, ("cat", "dog", "CAT"), "the model has several classes named 'cat'"),
        ],
    )
    def test_a_name_that_is_there_twice_is_refused(
        self, categories: dict[int, str], names: tuple[str, ...], owner: str
    ) -> None:
        with pytest.raises(DataError, match=owner):
            by_categories(categories, len(names), names)

    def test_names_that_are_there_twice_and_not_used_do_no_harm(self) -> None:
        assert by_categories({1: "cat"}, 3, ("N/A", "cat", "N/A")).class_of == {1: 1}

    def test_without_a_number_and_names_nothing_is_known(self) -> None:
        with pytest.raises(DataError, match="states neither the number") as caught:
            by_categories(COCO, None)
        assert "model.num_classes" in caught.value.hint

    def test_another_number_of_names_than_of_classes_is_refused(self) -> None:
        with pytest.raises(DataError, match="names 2 classes and has 3"):
            by_categories({1: "cat"}, 3, ("cat", "dog"))


class TestClassNumbers:
    def test_the_number_is_the_class(self) -> None:
        named = map_class_numbers(1, ["cat", "dog"], 2, (), "data.yaml")
        assert named.class_of == {0: 0, 1: 1}
        assert named.class_names == ("cat", "dog")
        assert "both have 2" in named.rule
        unnamed = map_class_numbers(77, [], 80, (), "folder")
        assert unnamed.class_of[77] == 77
        assert unnamed.class_names[77] == "77"
        assert "does not name its classes" in unnamed.rule
        assert map_class_numbers(0, [], None, ("cat", "dog"), "folder").class_names == ("cat", "dog")

    def test_names_are_matched_where_both_have_them(self) -> None:
        assert map_class_numbers(1, ["dog", "cat"], 3, ("cat", "bird", "Dog"), "data.yaml").class_of == {0: 2, 1: 0}
        with pytest.raises(DataError, match=r"'owl' of data\.yaml"):
            map_class_numbers(0, ["owl"], 1, ("cat",), "data.yaml")

    def test_cocos_80_classes_need_names_for_a_model_of_its_ids(self) -> None:
        by_id = tuple(f"category {number}" for number in range(1, 91))
        mapped = map_class_numbers(79, NAMES, 90, by_id, "data.yaml")
        assert (mapped.class_of[0], mapped.class_of[11], mapped.class_of[79]) == (0, 12, 89)
        for count in (90, 91):
            with pytest.raises(DataError, match=f"80 classes and the model has {count}"):
                map_class_numbers(79, NAMES, count, (), "data.yaml")
            with pytest.raises(DataError, match="ids, which have gaps") as caught:
                map_class_numbers(77, [], count, (), "folder")
            assert "dataset.labels=FILE" in caught.value.hint

    @pytest.mark.parametrize(
        ("highest", "names", "count", "message"),
        [
            (80, [], 80, "class 80, and the model's 80 classes are 0 to 79"),
            (2, ["cat", "dog"], 2, "class 2, and names 2 classes, 0 to 1"),
            (0, ["cat", "dog"], 3, "2 classes and the model has 3"),
            (0, ["cat", "dog"], None, "states neither the number"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, highest: int, names: list[str], count: int | None, message: str
    ) -> None:
        with pytest.raises(DataError, match=message) as caught:
            map_class_numbers(highest, names, count, (), "folder")
        assert caught.value.hint
