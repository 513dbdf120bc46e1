"""Families and orders of the 200 species of CUB-200-2011, in today's taxonomy (Clements/eBird).

The partition is that of the table in public use (PRIS-CV/Fine-Grained-or-Not, 38 families), except for
Red_legged_Kittiwake: that table has it alone in a family beside the kingfishers, and here it is a gull. This leaves 37
families.
"""

_SPECIES: dict[tuple[str, str], str] = {
    ("Anseriformes", "Anatidae"): "Gadwall Mallard Hooded_Merganser Red_breasted_Merganser",
    ("Apodiformes", "Trochilidae"): "Anna_Hummingbird Ruby_throated_Hummingbird Rufous_Hummingbird Green_Violetear",
    ("Caprimulgiformes", "Caprimulgidae"): "Chuck_will_Widow Nighthawk Whip_poor_Will",
    ("Charadriiformes", "Alcidae"): """
        Crested_Auklet Least_Auklet Parakeet_Auklet Rhinoceros_Auklet Pigeon_Guillemot Horned_Puffin""",
    ("Charadriiformes", "Laridae"): """
        California_Gull Glaucous_winged_Gull Heermann_Gull Herring_Gull Ivory_Gull Ring_billed_Gull Slaty_backed_Gull
        Western_Gull Red_legged_Kittiwake Artic_Tern Black_Tern Caspian_Tern Common_Tern Elegant_Tern Forsters_Tern
        Least_Tern""",
    ("Charadriiformes", "Stercorariidae"): "Long_tailed_Jaeger Pomarine_Jaeger",
    ("Coraciiformes", "Alcedinidae"): """
        Belted_Kingfisher Green_Kingfisher Pied_Kingfisher Ringed_Kingfisher White_breasted_Kingfisher""",
    ("Cuculiformes", "Cuculidae"): """
        Groove_billed_Ani Black_billed_Cuckoo Mangrove_Cuckoo Yellow_billed_Cuckoo Geococcyx""",
    ("Gaviiformes", "Gaviidae"): "Pacific_Loon",
    ("Passeriformes", "Alaudidae"): "Horned_Lark",
    ("Passeriformes", "Bombycillidae"): "Bohemian_Waxwing Cedar_Waxwing",
    ("Passeriformes", "Cardinalidae"): """
        Indigo_Bunting Lazuli_Bunting Painted_Bunting Cardinal Blue_Grosbeak Rose_breasted_Grosbeak Scarlet_Tanager
        Summer_Tanager""",
    ("Passeriformes", "Certhiidae"): "Brown_Creeper",
    ("Passeriformes", "Corvidae"): """
        American_Crow Fish_Crow Blue_Jay Florida_Jay Green_Jay Clark_Nutcracker Common_Raven White_necked_Raven""",
    ("Passeriformes", "Fringillidae"): """
        Gray_crowned_Rosy_Finch Purple_Finch American_Goldfinch European_Goldfinch Evening_Grosbeak Pine_Grosbeak""",
    ("Passeriformes", "Hirundinidae"): "Bank_Swallow Barn_Swallow Cliff_Swallow Tree_Swallow",
    ("Passeriformes", "Icteridae"): """
        Brewer_Blackbird Red_winged_Blackbird Rusty_Blackbird Yellow_headed_Blackbird Bobolink Bronzed_Cowbird
        Shiny_Cowbird Boat_tailed_Grackle Western_Meadowlark Baltimore_Oriole Hooded_Oriole Orchard_Oriole
        Scott_Oriole""",
    ("Passeriformes", "Icteriidae"): "Yellow_breasted_Chat",
    ("Passeriformes", "Laniidae"): "Loggerhead_Shrike Great_Grey_Shrike",
    ("Passeriformes", "Mimidae"): "Gray_Catbird Mockingbird Brown_Thrasher Sage_Thrasher",
    ("Passeriformes", "Motacillidae"): "American_Pipit",
    ("Passeriformes", "Parulidae"): """
        Ovenbird American_Redstart Bay_breasted_Warbler Black_and_white_Warbler Black_throated_Blue_Warbler
        Blue_winged_Warbler Canada_Warbler Cape_May_Warbler Cerulean_Warbler Chestnut_sided_Warbler
        Golden_winged_Warbler Hooded_Warbler Kentucky_Warbler Magnolia_Warbler Mourning_Warbler Myrtle_Warbler
        Nashville_Warbler Orange_crowned_Warbler Palm_Warbler Pine_Warbler Prairie_Warbler Prothonotary_Warbler
        Swainson_Warbler Tennessee_Warbler Wilson_Warbler Worm_eating_Warbler Yellow_Warbler Northern_Waterthrush
        Louisiana_Waterthrush Common_Yellowthroat""",
    ("Passeriformes", "Passerellidae"): """
        Eastern_Towhee Dark_eyed_Junco Baird_Sparrow Black_throated_Sparrow Brewer_Sparrow Chipping_Sparrow
        Clay_colored_Sparrow Field_Sparrow Fox_Sparrow Grasshopper_Sparrow Harris_Sparrow Henslow_Sparrow
        Le_Conte_Sparrow Lincoln_Sparrow Nelson_Sharp_tailed_Sparrow Savannah_Sparrow Seaside_Sparrow Song_Sparrow
        Tree_Sparrow Vesper_Sparrow White_crowned_Sparrow White_throated_Sparrow Green_tailed_Towhee""",
    ("Passeriformes", "Passeridae"): "House_Sparrow",
    ("Passeriformes", "Ptilonorhynchidae"): "Spotted_Catbird",
    ("Passeriformes", "Sittidae"): "White_breasted_Nuthatch",
    ("Passeriformes", "Sturnidae"): "Cape_Glossy_Starling",
    ("Passeriformes", "Troglodytidae"): """
        Bewick_Wren Cactus_Wren Carolina_Wren House_Wren Marsh_Wren Rock_Wren Winter_Wren""",
    ("Passeriformes", "Tyrannidae"): """
        Acadian_Flycatcher Great_Crested_Flycatcher Least_Flycatcher Olive_sided_Flycatcher Scissor_tailed_Flycatcher
        Vermilion_Flycatcher Yellow_bellied_Flycatcher Gray_Kingbird Tropical_Kingbird Western_Wood_Pewee Sayornis""",
    ("Passeriformes", "Vireonidae"): """
        Black_capped_Vireo Blue_headed_Vireo Philadelphia_Vireo Red_eyed_Vireo Warbling_Vireo White_eyed_Vireo
        Yellow_throated_Vireo""",
    ("Pelecaniformes", "Pelecanidae"): "Brown_Pelican White_Pelican",
    ("Piciformes", "Picidae"): """
        Northern_Flicker American_Three_toed_Woodpecker Pileated_Woodpecker Red_bellied_Woodpecker
        Red_cockaded_Woodpecker Red_headed_Woodpecker Downy_Woodpecker""",
    ("Podicipediformes", "Podicipedidae"): "Eared_Grebe Horned_Grebe Pied_billed_Grebe Western_Grebe",
    ("Procellariiformes", "Diomedeidae"): "Black_footed_Albatross Laysan_Albatross Sooty_Albatross",
    ("Procellariiformes", "Procellariidae"): "Northern_Fulmar",
    ("Suliformes", "Fregatidae"): "Frigatebird",
    ("Suliformes", "Phalacrocoracidae"): "Brandt_Cormorant Red_faced_Cormorant Pelagic_Cormorant",
}

FAMILY_OF = {species: family for (_, family), names in _SPECIES.items() for species in names.split()}
"""Family of each species, by its name in classes.txt without the number."""
ORDER_OF = {family: order for order, family in _SPECIES}
"""Order of each family."""
