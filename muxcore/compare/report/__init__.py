"""What a comparison found, told: a page, a card, Markdown, and text for a terminal.

All are made of the JSON that ``session.compare`` returns. What is said in words is said in
``verdict.py`` alone, so that no two of them say something else.
"""
